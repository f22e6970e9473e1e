// Proves the default action of every signal, whether sent or raised by an instruction, with the
// right wait status and core flag; and that blocked or ignored faults end the process.
#include "guest.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static volatile int *volatile bad_address = (int *)16;

static void core_limit(rlim_t size)
{
    struct rlimit limit = {.rlim_cur = size, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_CORE, &limit) == -1) {
        limit.rlim_max = limit.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &limit);
    }
}

static void *fault_in_thread(void *arg)
{
    *(volatile int *volatile)arg = 1;
    return NULL;
}

static void in_child(const char *name, void (*action)(int), int sig, int prepare)
{
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0); // SIGTSTP and its kin stop nothing in an orphaned process group
        if (prepare == 1) {
            sigset_t set;
            sigfillset(&set);
            sigprocmask(SIG_BLOCK, &set, NULL);
        } else if (prepare == 2) {
            signal(sig, SIG_IGN);
        }
        action(sig);
        _exit(55);
    }
    int status;
    NEED(waitpid(child, &status, WUNTRACED) == child);
    say_status(name, status);
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        wait_and_say(name, child);
    }
}

static void raise_it(int sig)
{
    raise(sig);
}

static void fault(int sig)
{
    if (sig == SIGSEGV) {
        *bad_address = 1;
    } else if (sig == SIGILL) {
        __asm__ volatile("ud2");
    } else if (sig == SIGTRAP) {
        __asm__ volatile("int3");
    } else if (sig == SIGFPE) {
        __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : : "rax", "rcx", "rdx", "cc");
    }
}

static void abort_it(int sig)
{
    (void)sig;
    abort();
}

static void thread_fault(int sig)
{
    (void)sig;
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, fault_in_thread, (void *)32) == 0);
    for (;;)
        pause();
}

static void returning(int sig)
{
    (void)sig;
}

static void handled_abort(int sig)
{
    signal(sig, returning);
    abort();
}

int main(void)
{
    core_limit(0);
    for (int sig = 1; sig < SIGSYS + 1; sig++)
        if (sig != SIGCONT)
            in_child(sigabbrev_np(sig), raise_it, sig, 0);
    static const int faults[] = {SIGSEGV, SIGILL, SIGTRAP, SIGFPE};
    for (unsigned i = 0; i < COUNT(faults); i++) {
        in_child("fault", fault, faults[i], 0);
        in_child("fault, blocked", fault, faults[i], 1);
        in_child("fault, ignored", fault, faults[i], 2);
    }
    in_child("fault in a thread", thread_fault, 0, 0);
    in_child("abort", abort_it, 0, 0);
    in_child("abort, blocked", abort_it, 0, 1);
    in_child("abort, ignored", abort_it, SIGABRT, 2);
    in_child("abort, handled", handled_abort, SIGABRT, 0);
    in_child("blocked, sent", raise_it, SIGSEGV, 1);
    in_child("ignored, sent", raise_it, SIGSEGV, 2);

    // With a core file allowed (the test runs this in a directory of its own).
    core_limit(RLIM_INFINITY);
    in_child("core: QUIT", raise_it, SIGQUIT, 0);
    in_child("core: fault", fault, SIGSEGV, 0);
    in_child("core: abort", abort_it, 0, 0);
    in_child("core: TERM", raise_it, SIGTERM, 0);
    prctl(PR_SET_DUMPABLE, 0);
    in_child("not dumpable", raise_it, SIGQUIT, 0);
    return 0;
}
