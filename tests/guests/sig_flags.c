// Proves SA_RESETHAND, SA_NODEFER, nesting and sa_mask, the siginfo that senders attach, queueing
// of real-time signals and its lack for others, SIGCHLD's information, SA_NOCLDWAIT, SIG_IGN.
#include "guest.h"

static int depth, deepest, raised;
static char order[200];
// raise() is declared a leaf, so the compiler would not expect our handlers to be called by it.
static int (*volatile send)(int) = raise;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)context;
    say("  info", "%s code %d from us %s uid right %s value %d",
        sig >= SIGRTMIN ? "real-time" : sigabbrev_np(sig), info->si_code,
        yes(info->si_pid == getpid()), yes(info->si_uid == getuid()),
        info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
}

static void nested(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    depth++;
    if (depth > deepest)
        deepest = depth;
    snprintf(order + strlen(order), sizeof(order) - strlen(order), "%s%d ",
             sig == SIGUSR1 ? "a" : "b", depth);
    if (++raised < 4)
        send(sig == SIGUSR1 ? SIGUSR2 : SIGUSR1);
    snprintf(order + strlen(order), sizeof(order) - strlen(order), "-%d ", depth);
    depth--;
}

static void again(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (depth < 5)
        send(sig);
    depth--;
}

static void child_info(int sig, siginfo_t *info, void *context)
{
    (void)context;
    say("  child", "%s code %d status %d", sigabbrev_np(sig), info->si_code, info->si_status);
}

static void collect(int sig, siginfo_t *info, void *context)
{
    (void)context;
    snprintf(order + strlen(order), sizeof(order) - strlen(order), "%d:%d ", sig - SIGRTMIN,
             info->si_value.sival_int);
}

static void queue(int sig, int number)
{
    NEED(sigqueue(getpid(), sig, (union sigval){.sival_int = number}) == 0);
}

int main(void)
{
    handle(SIGUSR1, handler, 0);
    send(SIGUSR1);
    kill(getpid(), SIGUSR1);
    queue(SIGUSR1, 77);

    handle(SIGUSR1, handler, SA_RESETHAND);
    send(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    say("reset", "%s", yes(now.sa_handler == SIG_DFL));

    // Each signal is blocked in its own handler only, so two can nest in turns.
    handle(SIGUSR1, nested, 0);
    handle(SIGUSR2, nested, 0);
    send(SIGUSR1);
    say("nested", "%s deepest %d", order, deepest);
    order[0] = 0;
    deepest = raised = 0;
    struct sigaction action = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    send(SIGUSR1);
    say("with a full sa_mask", "%s deepest %d", order, deepest);
    deepest = 0;
    handle(SIGUSR1, again, SA_NODEFER);
    send(SIGUSR1);
    say("SA_NODEFER", "deepest %d", deepest);
    deepest = 0;
    order[0] = 0;

    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    for (int sig = SIGRTMIN; sig < SIGRTMIN + 3; sig++)
        handle(sig, collect, 0);
    handle(SIGUSR2, handler, 0);
    for (int i = 0; i < 4; i++) {
        queue(SIGRTMIN + 2 - i % 3, i);
        queue(SIGUSR2, i); // kept once
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    say("queued", "%s", order);

    handle(SIGCHLD, child_info, SA_RESTART);
    static const int ways[] = {0, SIGTERM, SIGKILL};
    for (unsigned i = 0; i < COUNT(ways); i++) {
        sigset_t chld;
        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        sigprocmask(SIG_BLOCK, &chld, NULL);
        pid_t child = fork();
        if (child == 0) {
            if (ways[i])
                send(ways[i]);
            _exit(33);
        }
        siginfo_t info;
        NEED(waitid(P_PID, child, &info, WEXITED) == 0);
        sigprocmask(SIG_UNBLOCK, &chld, NULL);
        say("waitid", "code %d status %d", info.si_code, info.si_status);
    }
    signal(SIGCHLD, SIG_DFL);
    handle(SIGCHLD, child_info, SA_NOCLDSTOP | SA_NOCLDWAIT);
    signal(SIGCHLD, SIG_IGN);
    if (fork() == 0)
        _exit(0);
    say("ignored child", "%s", outcome(wait(NULL)));
    signal(SIGUSR1, SIG_IGN);
    send(SIGUSR1);
    sigaction(SIGUSR1, NULL, &now);
    say("still ignored", "%s", yes(now.sa_handler == SIG_IGN));
    say("sigaction of KILL", "%s", outcome(sigaction(SIGKILL, &action, NULL)));
    return 0;
}
