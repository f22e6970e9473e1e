// Proves that signals which instructions raise are like all others when somebody sends them: while
// blocked or ignored they interrupt nothing, wait, and can be waited for; calls go on behind their
// handlers as SA_RESTART says; they outlive an execve, come first, and go to a thread that does not
// block them.
#include "guest.h"

#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

enum { LONG_MS = 300, LONG_S = 1000 };

static int ends[2];
static pid_t process, main_tid;
static volatile int hits;

static void count(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    hits++;
}

static void show(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    say("  handler", "%s blocked HUP %s USR2 %s SEGV %s TRAP %s", sigabbrev_np(sig),
        yes(sigismember(&mask, SIGHUP)), yes(sigismember(&mask, SIGUSR2)),
        yes(sigismember(&mask, SIGSEGV)), yes(sigismember(&mask, SIGTRAP)));
}

static sigset_t only(int sig)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    return set;
}

static bool is_pending(int sig)
{
    sigset_t pending;
    NEED(sigpending(&pending) == 0);
    return sigismember(&pending, sig);
}

// Another thread sends when the main thread sleeps, and then lets it go on, if by a byte.
static struct order {
    int sig;
    bool byte;
} order;
static pthread_t sender;

static void *send_it(void *unused)
{
    while (thread_state(main_tid) != 'S')
        pass_ms(1);
    pass_ms(20);
    NEED(syscall(SYS_tgkill, process, main_tid, order.sig) == 0);
    pass_ms(50);
    if (order.byte)
        NEED(write(ends[1], "x", 1) == 1);
    return unused;
}

static void begin(int sig, bool byte)
{
    sigset_t all, before;
    order = (struct order){sig, byte};
    sigfillset(&all);
    NEED(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    NEED(pthread_create(&sender, NULL, send_it, NULL) == 0);
    NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

static void end(void)
{
    NEED(pthread_join(sender, NULL) == 0);
}

static void reads(const char *name, int sig)
{
    char byte;
    hits = 0;
    begin(sig, true);
    long result = read(ends[0], &byte, 1);
    int error = errno;
    end();
    if (result == -1)
        NEED(read(ends[0], &byte, 1) == 1);
    errno = error;
    say(name, "%s, handled %d", outcome(result), hits);
}

static void sleeps(const char *name, int sig)
{
    struct timespec time = {.tv_nsec = LONG_MS * 1000000L}, from, to;
    begin(sig, false);
    clock_gettime(CLOCK_MONOTONIC, &from);
    const char *result = outcome(nanosleep(&time, NULL));
    clock_gettime(CLOCK_MONOTONIC, &to);
    end();
    double passed = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
    say(name, "%s, whole %s", result, yes(passed > 0.99e-3 * LONG_MS));
}

static void takes(int sig)
{
    sigset_t set = only(sig);
    struct timespec none = {0};
    struct signalfd_siginfo record;
    siginfo_t info;
    NEED(is_pending(sig));
    say("sigtimedwait", "%s", yes(sigtimedwait(&set, &info, &none) == sig));
    say("  its code", "%d from us %s", info.si_code, yes(info.si_pid == process));
    say("sigtimedwait again", "%s", outcome(sigtimedwait(&set, NULL, &none)));
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    NEED(fd >= 0 && kill(process, sig) == 0);
    say("poll", "%d", poll(&entry, 1, LONG_S * 1000));
    say("signalfd", "%ld", (long)read(fd, &record, sizeof(record)));
    say("signalfd again", "%s", outcome(read(fd, &record, sizeof(record))));
    NEED(close(fd) == 0);
    say("pending", "%s", yes(is_pending(sig)));
}

static void suspends(int sig)
{
    sigset_t but_hup = only(SIGHUP);
    handle(sig, show, 0);
    NEED(raise(sig) == 0);
    say("sigsuspend, pending before", "%s", outcome(sigsuspend(&but_hup)));
    say("pending", "%s", yes(is_pending(sig)));
    begin(sig, false);
    say("sigsuspend", "%s", outcome(sigsuspend(&but_hup)));
    end();
    begin(sig, false);
    say("ppoll", "%s", outcome(ppoll(NULL, 0, NULL, &but_hup)));
    end();
    say("pending", "%s", yes(is_pending(sig)));
    // One that the temporary mask blocks, too, does not end the wait.
    sigset_t both = only(SIGHUP);
    sigaddset(&both, sig);
    NEED(raise(sig) == 0);
    begin(SIGUSR2, false);
    say("sigsuspend that blocks it", "%s", outcome(sigsuspend(&both)));
    end();
    say("pending", "%s", yes(is_pending(sig)));
}

static void executes(int sig)
{
    sigset_t set = only(sig);
    pid_t child = fork();
    if (child == 0) {
        NEED(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0 && raise(sig) == 0);
        execl("/proc/self/exe", "sig_sent", "executed", NULL);
        _exit(9);
    }
    wait_and_say("execve", child);
}

static void executed(void)
{
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    static const int sigs[] = {SIGUSR1, SIGSEGV, SIGTRAP};
    for (unsigned i = 0; i < COUNT(sigs); i++)
        say("  after execve", "%s blocked %s pending %s", sigabbrev_np(sigs[i]),
            yes(sigismember(&mask, sigs[i])), yes(is_pending(sigs[i])));
}

static volatile bool stop;
static volatile pid_t other_tid, handled_by;

static void on_other(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (info->si_code == SI_USER && info->si_pid == process)
        handled_by = gettid();
}

static void *other(void *unused)
{
    sigset_t none;
    sigemptyset(&none);
    NEED(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
    other_tid = gettid();
    while (!stop)
        pass_ms(1);
    return unused;
}

static void threads(int sig)
{
    pthread_t thread;
    sigset_t set = only(sig), before;
    handle(sig, on_other, 0);
    NEED(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
    stop = false;
    other_tid = handled_by = 0;
    NEED(pthread_create(&thread, NULL, other, NULL) == 0);
    while (!other_tid)
        pass_ms(1);
    NEED(kill(process, sig) == 0);
    for (int ms = 0; ms < 10000 && !handled_by; ms++)
        pass_ms(1);
    say("open in another thread", "handled there %s", yes(handled_by == other_tid));
    stop = true;
    NEED(pthread_join(thread, NULL) == 0);
    say("pending", "%s", yes(is_pending(sig)));
    signal(sig, SIG_IGN);
    NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    signal(sig, SIG_DFL);
}

static char sequence[200];

static void note(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    int used = (int)strlen(sequence);
    snprintf(sequence + used, sizeof(sequence) - used, "%d ", sig);
}

// The last whose frame is laid out is the first to run.
static void in_order(void)
{
    static const int sigs[] = {SIGHUP, SIGSEGV, SIGUSR1, SIGTRAP, SIGTERM, SIGFPE};
    sigset_t all, before;
    sigfillset(&all);
    NEED(sigprocmask(SIG_BLOCK, &all, &before) == 0);
    for (unsigned i = 0; i < COUNT(sigs); i++) {
        handle(sigs[i], note, 0);
        NEED(kill(process, sigs[i]) == 0);
    }
    NEED(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    say("order", "%s", sequence);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        executed();
        return 0;
    }
    process = getpid();
    main_tid = gettid();
    NEED(pipe(ends) == 0);
    handle(SIGUSR2, show, 0);
    static const int sigs[] = {SIGUSR1, SIGSEGV, SIGTRAP};
    for (unsigned i = 0; i < COUNT(sigs); i++) {
        int sig = sigs[i];
        sigset_t set = only(sig), before;
        say("signal", "%s", sigabbrev_np(sig));
        handle(sig, count, SA_RESTART);
        reads("read, SA_RESTART", sig);
        handle(sig, count, 0);
        reads("read", sig);
        NEED(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
        reads("read, blocked", sig);
        sleeps("nanosleep, blocked", sig);
        takes(sig);
        suspends(sig);
        handle(sig, count, 0);
        hits = 0;
        NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
        say("unblocked", "handled %d", hits);
        signal(sig, SIG_IGN);
        reads("read, ignored", sig);
        sleeps("nanosleep, ignored", sig);
        signal(sig, SIG_DFL);
        executes(sig);
        threads(sig);
    }
    in_order();
    return 0;
}
