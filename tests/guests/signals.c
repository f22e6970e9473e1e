// Handlers, masks, restarts: what signals do to a program, told in a fixed order.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t count, depth, deepest, value;
static volatile int go = -1; // who waits at the other end goes on at the third alarm

static void counter(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    count++;
    value = info->si_value.sival_int;
    if (sig == SIGALRM && count == 3 && go >= 0 && write(go, "x", 1) != 1)
        _exit(1);
}

static void nested(int sig)
{
    if (++depth > deepest)
        deepest = depth;
    if (sig == SIGUSR1)
        raise(SIGUSR2);
    depth--;
}

static void skip(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    ucontext_t *uc = context;
    uc->uc_mcontext.gregs[REG_RIP] += 2;
    uc->uc_mcontext.gregs[REG_RAX] = 77;
}

static void on_stack(int sig)
{
    stack_t now;
    (void)sig;
    sigaltstack(NULL, &now);
    char here;
    char *low = now.ss_sp;
    printf("on alternate stack: %d, flags %d\n", &here >= low && &here < low + now.ss_size,
           now.ss_flags);
}

static void install(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(sig, &action, NULL);
}

// Again and again: one comes in the call that is to be interrupted, however late that begins.
static void alarms(long us)
{
    struct itimerval timer = {{.tv_usec = us}, {.tv_usec = us}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

// A read that signals meet: with SA_RESTART it goes on and gets the byte a child writes later.
static void interrupted_read(int flags)
{
    int ends[2], orders[2];
    char byte = 0;
    if (pipe(ends) || pipe(orders))
        exit(1);
    install(SIGALRM, counter, flags);
    pid_t child = fork();
    if (child == 0) {
        close(orders[1]);
        ssize_t n = read(orders[0], &byte, 1) == 1 ? write(ends[1], "x", 1) : 0;
        _exit(n != 1);
    }
    count = 0;
    go = flags ? orders[1] : -1; // without SA_RESTART nobody writes
    alarms(20000);
    ssize_t n = read(ends[0], &byte, 1);
    int error = errno;
    alarms(0);
    printf("read with flags %s: %zd %s\n", flags ? "SA_RESTART" : "0", n,
           n < 0 ? strerror(error) : "");
    close(orders[0]);
    close(orders[1]);
    while (waitpid(child, NULL, 0) < 0)
        ;
    close(ends[0]);
    close(ends[1]);
    go = -1;
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    install(SIGUSR1, counter, 0);
    raise(SIGUSR1);
    printf("raise: %d\n", count);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42});
    printf("sigqueue: %d value %d\n", count, value);

    sigset_t set, old, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    printf("blocked: %d pending %d\n", count, sigismember(&pending, SIGUSR1));
    int r = sigsuspend(&none);
    printf("sigsuspend: %d errno %d count %d\n", r, errno, count);
    sigprocmask(0, NULL, &pending);
    printf("mask after: %d %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGSEGV));
    raise(SIGUSR1);
    siginfo_t info;
    printf("sigwaitinfo: %d\n", sigwaitinfo(&set, &info));
    raise(SIGUSR1);
    int fd = signalfd(-1, &set, 0);
    struct signalfd_siginfo got;
    ssize_t n = read(fd, &got, sizeof(got));
    printf("signalfd: %zd signo %u\n", n, got.ssi_signo);
    sigprocmask(SIG_SETMASK, &old, NULL);

    signal(SIGUSR1, nested);
    signal(SIGUSR2, nested);
    raise(SIGUSR1);
    printf("nesting: %d\n", deepest);
    struct sigaction once = {.sa_handler = nested, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGUSR1, &once, NULL);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &once);
    printf("SA_RESETHAND: default %d\n", once.sa_handler == SIG_DFL);

    interrupted_read(0);
    interrupted_read(SA_RESTART);
    alarms(50000);
    r = poll(NULL, 0, 1000000);
    printf("poll: %d %s\n", r, strerror(errno));
    struct timespec sleep = {.tv_sec = 1000}, rest = {0};
    r = nanosleep(&sleep, &rest);
    printf("nanosleep: %d %s rest %d\n", r, strerror(errno),
           rest.tv_sec < 1000 && rest.tv_sec > 900);
    alarms(0);

    install(SIGILL, skip, 0);
    long rax;
    __asm__ volatile("ud2" : "=a"(rax));
    printf("changed context: %ld\n", rax);

    static char stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    sigaltstack(&alt, NULL);
    struct sigaction action = {.sa_handler = on_stack, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);

    for (int sig = 1; sig <= 31; sig++) {
        pid_t child = fork();
        if (child == 0) {
            signal(sig, SIG_DFL);
            raise(sig);
            _exit(sig);
        }
        int status;
        waitpid(child, &status, WUNTRACED);
        if (WIFSTOPPED(status)) {
            kill(child, SIGCONT);
            waitpid(child, &status, 0);
        }
        printf("default of %d: %x\n", sig, (unsigned)status & ~0x80U);
    }
    return 0;
}
