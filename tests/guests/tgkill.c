// Proves that a signal sent to one thread is handled by that thread, whether it computes or waits,
// and that one sent to the process goes to a thread that does not block it.
#include "guest.h"

#include <pthread.h>
#include <sys/syscall.h>

enum { THREADS = 4 };
static __thread int self = -1;
static volatile int handled[THREADS + 1], blocking_handled;
static volatile pid_t tids[THREADS];
static volatile bool stop;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (sig == SIGUSR2)
        blocking_handled = self;
    else
        handled[self + 1]++;
}

static void *run(void *arg)
{
    self = (int)(long)arg;
    if (self != 2) { // only thread 2 takes SIGUSR2
        sigset_t usr2;
        sigemptyset(&usr2);
        sigaddset(&usr2, SIGUSR2);
        pthread_sigmask(SIG_BLOCK, &usr2, NULL);
    }
    tids[self] = gettid();
    while (!stop) {
        if (self % 2) {
            struct timespec time = {.tv_nsec = 50000000};
            nanosleep(&time, NULL);
        }
    }
    return NULL;
}

int main(void)
{
    handle(SIGUSR1, handler, SA_RESTART);
    handle(SIGUSR2, handler, SA_RESTART);
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    for (int i = 0; i < THREADS; i++)
        while (!tids[i])
            sched_yield();
    for (int round = 1; round <= 50; round++) {
        for (int i = 0; i < THREADS; i++) {
            if (round % 2)
                NEED(syscall(SYS_tgkill, getpid(), tids[i], SIGUSR1) == 0);
            else
                NEED(pthread_kill(threads[i], SIGUSR1) == 0);
            while (handled[i + 1] < round)
                sched_yield();
        }
    }
    say("handled", "%d %d %d %d, main %d", handled[1], handled[2], handled[3], handled[4],
        handled[0]);
    for (int i = 0; i < 20; i++) {
        blocking_handled = -1;
        NEED(kill(getpid(), SIGUSR2) == 0);
        while (blocking_handled == -1)
            sched_yield();
        NEED(blocking_handled == 2);
    }
    say("to the process", "taken by thread %d", blocking_handled);
    say("no such thread", "%s", outcome(syscall(SYS_tgkill, getpid(), 1, SIGUSR1)));
    stop = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
