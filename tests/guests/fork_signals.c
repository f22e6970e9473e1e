// Proves that a signal that comes while the process forks goes to the thread that it would go to at
// any time, although another waits for it; and that no child has it, or what was pending before.
#include "guest.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { ROUNDS = 60, STEP_US = 37 };

static pid_t process;
static volatile int handled, taken, strayed, told, done;
static volatile pid_t waiting;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    handled++;
    strayed |= getpid() != process || gettid() != process;
}

static void *waiter(void *unused)
{
    sigset_t all;
    siginfo_t info;
    (void)unused;
    sigfillset(&all);
    waiting = gettid();
    while (!done) { // of those that have no handler, too
        int sig = sigwaitinfo(&all, &info);
        taken += sig == SIGALRM;
        told += sig == SIGUSR2;
    }
    return NULL;
}

int main(void)
{
    sigset_t all, trap, before, pending;
    pthread_t thread;
    process = getpid();
    sigfillset(&all);
    NEED(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    NEED(pthread_create(&thread, NULL, waiter, NULL) == 0);
    NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    handle(SIGALRM, on_alarm, SA_RESTART);
    // It waits again: one that begins to wait takes what is on its way to another.
    NEED(pthread_kill(thread, SIGUSR2) == 0);
    while (!told || thread_state(waiting) != 'S')
        pass_ms(1);
    pass_ms(20);
    int failed = 0, in_child = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct itimerval timer = {.it_value.tv_usec = 1 + i * STEP_US};
        NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        pid_t child = (pid_t)syscall(SYS_fork);
        if (child == 0)
            _exit(strayed);
        int status = -1;
        failed += child < 0 || waitpid(child, &status, 0) != child;
        in_child += status != 0;
        while (handled + taken <= i)
            pass_ms(1);
    }
    say("forks that failed", "%d", failed);
    say("handled in another thread or process", "%s", yes(strayed || in_child));
    say("taken by the thread that waits", "%d", taken);

    sigemptyset(&trap);
    sigaddset(&trap, SIGTRAP);
    sigaddset(&trap, SIGUSR1);
    NEED(pthread_sigmask(SIG_BLOCK, &trap, NULL) == 0);
    NEED(pthread_kill(pthread_self(), SIGTRAP) == 0);
    NEED(pthread_kill(pthread_self(), SIGUSR1) == 0);
    pid_t child = fork();
    if (child == 0) {
        NEED(sigpending(&pending) == 0);
        _exit(sigismember(&pending, SIGTRAP) || sigismember(&pending, SIGUSR1));
    }
    int status = -1;
    NEED(waitpid(child, &status, 0) == child);
    say("inherited", "%d", status);
    NEED(sigpending(&pending) == 0);
    say("pending still", "%s",
        yes(sigismember(&pending, SIGTRAP) && sigismember(&pending, SIGUSR1)));
    done = 1;
    NEED(pthread_kill(thread, SIGUSR2) == 0);
    NEED(pthread_join(thread, NULL) == 0);
    return 0;
}
