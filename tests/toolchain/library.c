// A shared library whose constructor leaves traces in the process: a packed program's has run
// before the HRT begins. With THREAD in the environment it also starts a thread.
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int begun;
static char stack[65536];

static void on_signal(int sig)
{
    char here;
    printf("library catches %d on its stack: %d\n", sig,
           &here >= stack && &here < stack + sizeof(stack));
}

static void *wait(void *argument)
{
    pause();
    return argument;
}

__attribute__((constructor)) static void begin(void)
{
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigset_t blocked;
    pthread_t thread;
    begun++;
    sigaltstack(&alternate, NULL);
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    signal(SIGQUIT, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGHUP);
    sigaddset(&blocked, SIGFPE);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    fesetround(FE_UPWARD);
    if (getenv("THREAD"))
        pthread_create(&thread, NULL, wait, NULL);
}

__attribute__((destructor)) static void end(void)
{
    printf("library ends after %d\n", begun);
    fflush(stdout);
}

int library_begun(void);

int library_begun(void)
{
    struct sigaction action;
    stack_t alternate;
    sigset_t blocked;
    volatile double one = 1, three = 3;
    raise(SIGUSR2);
    kill(getpid(), SIGSEGV);
    sigaction(SIGUSR2, NULL, &action);
    printf("handler %d flags %x\n", action.sa_handler == on_signal, (unsigned)action.sa_flags);
    sigaction(SIGQUIT, NULL, &action);
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    sigaltstack(NULL, &alternate);
    printf("ignored %d blocked %d %d %d\n", action.sa_handler == SIG_IGN,
           sigismember(&blocked, SIGHUP), sigismember(&blocked, SIGFPE),
           sigismember(&blocked, SIGTERM));
    printf("stack %d %zu rounding %d third %a\n", alternate.ss_sp == stack, alternate.ss_size,
           fegetround() == FE_UPWARD, one / three);
    return begun;
}
