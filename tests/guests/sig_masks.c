// Proves masks, pending sets and the ways to wait for a signal: sigpending, sigsuspend, sigwait,
// sigtimedwait, signalfd, ppoll and pselect with masks; per thread and per process; calls that
// change nothing, and wrong ones.
#include "guest.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

static volatile sig_atomic_t hits;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    say("  handler", "%s blocked USR1 %s USR2 %s", sigabbrev_np(sig),
        yes(sigismember(&mask, SIGUSR1)), yes(sigismember(&mask, SIGUSR2)));
    hits++;
}

static sigset_t set(int first, int second)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    if (second)
        sigaddset(&set, second);
    return set;
}

static void say_pending(const char *name)
{
    sigset_t pending;
    NEED(sigpending(&pending) == 0);
    say(name, "USR1 %s USR2 %s SEGV %s", yes(sigismember(&pending, SIGUSR1)),
        yes(sigismember(&pending, SIGUSR2)), yes(sigismember(&pending, SIGSEGV)));
}

static void *other_thread(void *arg)
{
    say_pending("pending in another thread");
    sigset_t usr2 = set(SIGUSR2, 0);
    int sig = 0;
    NEED(sigwait(&usr2, &sig) == 0);
    say("sigwait", "%s", sigabbrev_np(sig));
    return arg;
}

static long mask_call(int how, const void *new, void *old, size_t size)
{
    return syscall(SYS_rt_sigprocmask, how, new, old, size);
}

// A mask for Linux, that of the C library having room for more signals.
static uint64_t mask_now(void)
{
    uint64_t mask = 0;
    NEED(mask_call(SIG_BLOCK, NULL, &mask, sizeof(mask)) == 0);
    return mask;
}

static void no_change(void)
{
    enum { TIMES = 40 }; // enough for the site to be rewritten, where that is done
    const uint64_t usr = 1UL << (SIGUSR1 - 1) | 1UL << (SIGUSR2 - 1), segv = 1UL << (SIGSEGV - 1),
                   kill = 1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1), all = ~0UL;
    uint64_t before = mask_now(), both = usr;
    NEED(mask_call(SIG_SETMASK, &usr, NULL, sizeof(usr)) == 0);
    bool right = true;
    for (int i = 0; i < TIMES; i++)
        right = right && mask_now() == usr && !mask_call(SIG_BLOCK, &usr, NULL, 8) &&
                !mask_call(SIG_BLOCK, &kill, NULL, 8) && !mask_call(SIG_SETMASK, &usr, NULL, 8);
    say("blocked as before", "%s", yes(right && mask_now() == usr));
    NEED(mask_call(SIG_BLOCK, &segv, NULL, 8) == 0);
    say("SEGV is added", "%s", yes(mask_now() == (usr | segv)));
    NEED(mask_call(SIG_SETMASK, &usr, &both, 8) == 0);
    say("and taken away", "%s %s", yes(mask_now() == usr), yes(both == (usr | segv)));
    NEED(mask_call(SIG_SETMASK, &both, &both, 8) == 0);
    say("old mask over the new one", "%s %s", yes(mask_now() == (usr | segv)), yes(both == usr));
    NEED(mask_call(SIG_UNBLOCK, &all, &both, 8) == 0);
    say("all open", "%s %s", yes(mask_now() == 0), yes(both == (usr | segv)));

    char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(page != MAP_FAILED);
    say("size 4", "%s", outcome(mask_call(SIG_BLOCK, NULL, NULL, 4)));
    say("size 16", "%s", outcome(mask_call(SIG_BLOCK, NULL, &both, 16)));
    say("no such change", "%s", outcome(mask_call(7, page, NULL, 8)));
    say("nor any asked for", "%s", outcome(mask_call(7, NULL, &both, 8)));
    say("old mask to what is read-only", "%s", outcome(mask_call(SIG_BLOCK, page, page, 8)));
    say("to nowhere", "%s", outcome(mask_call(SIG_BLOCK, NULL, (void *)8, 8)));
    say("to the kernel", "%s", outcome(mask_call(SIG_BLOCK, NULL, (void *)(1UL << 63), 8)));
    say("new mask from nowhere", "%s", outcome(mask_call(SIG_BLOCK, (void *)8, NULL, 8)));
    say("from the kernel", "%s", outcome(mask_call(SIG_BLOCK, (void *)-8UL, NULL, 8)));
    NEED(mprotect(page, PAGE, PROT_NONE) == 0);
    say("from what is closed", "%s", outcome(mask_call(SIG_BLOCK, page, NULL, 8)));
    say("still all open", "%s", yes(mask_now() == 0));
    NEED(munmap(page, PAGE) == 0);
    NEED(mask_call(SIG_SETMASK, &before, NULL, 8) == 0);
}

int main(void)
{
    no_change();
    handle(SIGUSR1, handler, 0);
    handle(SIGUSR2, handler, 0);
    handle(SIGSEGV, handler, 0);
    sigset_t both = set(SIGUSR1, SIGUSR2), empty, usr1 = set(SIGUSR1, 0), usr2 = set(SIGUSR2, 0);
    sigemptyset(&empty);
    sigprocmask(SIG_BLOCK, &both, NULL);
    say_pending("nothing");
    raise(SIGUSR1);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR2);
    say_pending("both");
    say("hits", "%d", hits);

    say("sigsuspend", "%s", outcome(sigsuspend(&usr2)));
    say_pending("after it");
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    pthread_join(thread, NULL);

    siginfo_t info;
    struct timespec timeout = {.tv_nsec = 1000000};
    say("sigtimedwait, none", "%s", outcome(sigtimedwait(&both, &info, &timeout)));
    union sigval value = {.sival_int = 1234};
    sigqueue(getpid(), SIGUSR1, value);
    int sig = sigtimedwait(&both, &info, &timeout);
    say("sigtimedwait", "%s value %d from us %s", sigabbrev_np(sig), info.si_value.sival_int,
        yes(info.si_pid == getpid()));

    int fd = signalfd(-1, &usr2, SFD_NONBLOCK | SFD_CLOEXEC);
    NEED(fd >= 0);
    struct signalfd_siginfo record;
    say("signalfd, none", "%s", outcome(read(fd, &record, sizeof(record))));
    raise(SIGUSR2);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    say("poll on it", "%d", poll(&poll_fd, 1, 1000));
    NEED(read(fd, &record, sizeof(record)) == sizeof(record));
    say("signalfd", "%s", sigabbrev_np((int)record.ssi_signo));
    say_pending("consumed");

    raise(SIGUSR1);
    say("ppoll", "%s", outcome(ppoll(NULL, 0, NULL, &usr2)));
    raise(SIGUSR2);
    say("pselect", "%s", outcome(pselect(0, NULL, NULL, NULL, NULL, &usr1)));
    say_pending("nothing left");

    // A signal sent while blocked arrives before the unblocking call returns.
    raise(SIGUSR1);
    int before = hits;
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    say("on unblocking", "%d", hits - before);

    // SIGSEGV sent by somebody, blocked: it waits like any other.
    sigset_t segv = set(SIGSEGV, 0);
    sigprocmask(SIG_BLOCK, &segv, NULL);
    kill(getpid(), SIGSEGV);
    say_pending("SEGV sent");
    sigprocmask(SIG_UNBLOCK, &segv, NULL);
    say_pending("SEGV delivered");
    signal(SIGUSR2, SIG_IGN);
    raise(SIGUSR2);
    say_pending("ignored");
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &empty);
    sigprocmask(SIG_SETMASK, NULL, &all);
    say("KILL and STOP cannot be blocked", "%d %d", sigismember(&all, SIGKILL),
        sigismember(&all, SIGSTOP));
    say("SEGV can", "%d", sigismember(&all, SIGSEGV));
    return 0;
}
