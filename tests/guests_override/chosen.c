// Functions that the C library chooses when a program starts (IFUNC), and very short ones. Says
// what they do, whoever calls them and however; with "leave", once more after the HRT.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#define SHORT __attribute__((noipa, aligned(16)))

SHORT void nothing(void)
{
}
SHORT void *same(void *pointer)
{
    return pointer;
}
SHORT long first(const long *where)
{
    if (!where) // a short branch within the first bytes
        return -1;
    return *where;
}
// Jumps at once to one that is just as short.
SHORT long forward(const long *where)
{
    return first(where);
}
SHORT int zero(void)
{
    return 0;
}

static size_t (*volatile length)(const char *) = strlen;

static void *thread(void *text)
{
    static const long one = 1;
    long ok = 0;
    for (int i = 0; i < 1000; i++)
        ok += (long)length(text) + first(&one);
    return (void *)ok;
}

// Single steps through a call of zero(): a program finds itself in its own code, or in what has
// taken the function over, but never in between.
extern char __executable_start[], etext[];
static volatile int steps, elsewhere;

static void on_step(int sig, siginfo_t *info, void *context)
{
    uint64_t rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    (void)sig, (void)info;
    steps++;
    if (rip >> 63 == 0 &&
        rip - (uint64_t)__executable_start >= (uint64_t)(etext - __executable_start))
        elsewhere++;
}

static void take_steps(void)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    int result;
    sigaction(SIGTRAP, &action, NULL);
    steps = elsewhere = 0;
    __asm__ volatile("sub $128, %%rsp; pushf; orl $0x100, (%%rsp); popf\n"
                     "call zero\n"
                     "pushf; andl $~0x100, (%%rsp); popf; add $128, %%rsp\n"
                     : "=a"(result)
                     :
                     : "memory", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
    printf("steps %d %d %d\n", result, steps >= 5, elsewhere);
}

static void say(void)
{
    const char *volatile special = "?special", *volatile plain = "plain";
    char from[64] = "copied", to[64] = {0};
    const long five = 5;
    struct timeval now = {0};
    pthread_t other;
    void *ok;
    volatile size_t size = 33;
    printf("strlen %zu %zu %zu\n", strlen(plain), strlen(special), length(special));
    memcpy(to, from, size);
    printf("memcpy %s", to);
    memcpy(to, from, size + 1);
    memmove(to + 32, from, size - 2); // another function, often of the same code
    printf(" %s %s\n", to, to + 32);
    char *twice = strdup(plain); // the library's own calls
    printf("strdup %s\n", twice);
    free(twice);
    gettimeofday(&now, NULL);
    printf("time %d %d\n", time(NULL) == 77, now.tv_sec == 88);
    pthread_create(&other, NULL, thread, (void *)special);
    pthread_join(other, &ok);
    printf("thread %ld\n", (long)ok);
    nothing();
    printf("short %d %ld %ld %ld %d\n", same(from) == from, first(&five), first(NULL),
           forward(&five), zero());
    fflush(stdout);
}

int main(int argc, char **argv)
{
    (void)argv;
    say();
    take_steps();
    if (argc > 1) {
        struct sock_filter allow = {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
        struct sock_fprog filter = {.len = 1, .filter = &allow};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
            return 1;
        say();
    }
    return 0;
}
