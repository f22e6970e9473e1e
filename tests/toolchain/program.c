// Tells what it sees of how it was started, or does what its first argument says.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef WITH_LIBRARY
int library_begun(void);
#endif

extern char **environ;
static int begun, preinit;

static void before(void)
{
    preinit++;
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(void) = before;

__attribute__((constructor)) static void begin(void)
{
    begun++;
}

__attribute__((destructor)) static void end(void)
{
    puts("program ends");
}

// Natively Linux does not know the call.
static int hosted(void)
{
    return !(syscall(0x4d564b, 5L) == -1 && errno == ENOSYS);
}

static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
    caught = sig;
}

static void tell(int argc, char **argv)
{
    char exe[4096];
    long n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    exe[n > 0 ? n : 0] = 0;
    printf("begun %d preinit %d\n", begun, preinit);
#ifdef WITH_LIBRARY
    printf("library %d\n", library_begun());
#endif
    printf("exe %s\nexecfn %s\nname %s\n", exe, (const char *)getauxval(AT_EXECFN),
           program_invocation_short_name);
    for (int i = 0; i < argc; i++)
        printf("argv %s\n", argv[i]);
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "MULTIVERSE=", 11) != 0)
            printf("env %s\n", *entry);
    fflush(stdout);
    for (int c; (c = getchar()) != EOF;)
        putchar(c);
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    printf("caught %d\n", (int)caught);
    double third = 1.0 / atoi("3");
    printf("%.17g\n", third);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "where") == 0) {
        puts(hosted() ? "HRT" : "native");
        return 0;
    }
    if (strcmp(what, "rseq") == 0) { // as Linux leaves the C library's area that it has forgotten
        struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
        puts((int)area->cpu_id == RSEQ_CPU_ID_UNINITIALIZED ? "forgotten" : "registered");
        return sched_getcpu() < 0;
    }
    if (strcmp(what, "exit") == 0)
        return atoi(argv[2]);
    if (strcmp(what, "kill") == 0)
        raise(atoi(argv[2]));
    if (strcmp(what, "fault") == 0)
        return *(volatile int *)(argc - 2L);
    if (strcmp(what, "child") == 0 && argc > 2) { // another program, started the usual way
        fflush(stdout);
        return system(argv[2]) ? 1 : 0;
    }
    tell(argc, argv);
    return 3;
}
