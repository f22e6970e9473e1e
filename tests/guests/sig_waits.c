// Proves that a poller answers waits that do not wait; that what only the thread that looks may
// see, it sees by whatever call it looks: signals sent to it, at a signalfd, by poll and epoll
// among many other calls; and that handlers which end waits with a mask of their own run with it,
// in calls that few programs make: io_pgetevents, io_uring_enter.
#include "guest.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

enum { ROUNDS = 200, CALLS = 20 };

static sigset_t only(int sig)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    return set;
}

static void calls(void)
{
    for (int i = 0; i < CALLS; i++)
        NEED(getppid() > 0);
}

// Waits that do not wait, among calls that keep a poller looking.
static void looks(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int ends[2], epoll = epoll_create1(0);
    sigset_t none;
    unsigned ready = 0;
    sigemptyset(&none);
    NEED(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        calls();
        ready += epoll_pwait(epoll, &event, 1, 0, i % 2 ? &none : NULL) == 1;
    }
    say("epoll_pwait", "ready %u", ready);
    NEED(close(ends[0]) == 0 && close(ends[1]) == 0 && close(epoll) == 0);
}

static void descriptors(void)
{
    sigset_t set = only(SIGUSR1), before;
    struct signalfd_siginfo record;
    struct epoll_event event = {.events = EPOLLIN};
    NEED(sigprocmask(SIG_BLOCK, &set, &before) == 0);
    for (int i = 0; i < 10; i++)
        calls();
    int fd = signalfd(-1, &set, SFD_NONBLOCK), epoll = epoll_create1(0);
    NEED(fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    unsigned by_poll = 0, by_epoll = 0, waited = 0, early = 0;
    for (int i = 0; i < ROUNDS; i++) {
        calls();
        early += poll(&entry, 1, 0) != 0 || epoll_wait(epoll, &event, 1, 0) != 0;
        NEED(pthread_kill(pthread_self(), SIGUSR1) == 0);
        calls();
        by_epoll += epoll_wait(epoll, &event, 1, 0) == 1;
        by_poll += poll(&entry, 1, 0) == 1;
        // What a look by another thread has taken from the list does not come again by itself.
        waited += epoll_wait(epoll, &event, 1, 10000) == 1;
        NEED(read(fd, &record, sizeof(record)) == sizeof(record));
        if (waited != (unsigned)i + 1)
            break;
    }
    say("signalfd", "poll %u epoll %u waited for %u too early %u", by_poll, by_epoll, waited,
        early);
    NEED(close(fd) == 0 && close(epoll) == 0);
    NEED(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
}

static pid_t process, main_tid;

static void show(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    say("  handler", "%s blocked HUP %s USR1 %s", sigabbrev_np(sig),
        yes(sigismember(&mask, SIGHUP)), yes(sigismember(&mask, SIGUSR1)));
}

static void *send_usr1(void *unused)
{
    while (thread_state(main_tid) != 'S')
        pass_ms(1);
    pass_ms(20);
    NEED(syscall(SYS_tgkill, process, main_tid, SIGUSR1) == 0);
    return unused;
}

static void try(const char *name, long (*call)(void *), void *arg)
{
    static const char *const states[] = {"open before", "blocked before"};
    sigset_t all, set = only(SIGUSR1), before;
    pthread_t sender;
    handle(SIGUSR1, show, 0);
    for (unsigned blocked = 0; blocked < COUNT(states); blocked++) {
        sigfillset(&all);
        NEED(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
        NEED(pthread_create(&sender, NULL, send_usr1, NULL) == 0);
        NEED(pthread_sigmask(SIG_SETMASK, blocked ? &set : &before, NULL) == 0);
        const char *result = outcome(call(arg));
        NEED(pthread_join(sender, NULL) == 0);
        say(name, "%s: %s", states[blocked], result);
        NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    }
}

static const uint64_t but_hup = 1UL << (SIGHUP - 1);

static long get_events(void *arg)
{
    aio_context_t *context = arg;
    struct io_event event;
    struct timespec time = {.tv_sec = 1000};
    struct {
        const uint64_t *mask;
        size_t size;
    } mask = {&but_hup, sizeof(but_hup)};
    return syscall(SYS_io_pgetevents, *context, 1L, 1L, &event, &time, &mask);
}

static long enter(void *arg)
{
    return syscall(SYS_io_uring_enter, *(int *)arg, 0, 1, IORING_ENTER_GETEVENTS, &but_hup,
                   sizeof(but_hup));
}

static long enter_extended(void *arg)
{
    struct io_uring_getevents_arg extended = {.sigmask = (uint64_t)&but_hup,
                                              .sigmask_sz = sizeof(but_hup)};
    return syscall(SYS_io_uring_enter, *(int *)arg, 0, 1,
                   IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &extended, sizeof(extended));
}

int main(void)
{
    aio_context_t context = 0;
    struct io_uring_params params = {0};
    process = getpid();
    main_tid = gettid();
    looks();
    descriptors();
    if (syscall(SYS_io_setup, 4, &context) == 0)
        try("io_pgetevents", get_events, &context);
    else
        say("io_setup", "%s", outcome(-1));
    int ring = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (ring == -1) {
        say("io_uring_setup", "%s", outcome(-1));
        return 0;
    }
    try("io_uring_enter", enter, &ring);
    try("io_uring_enter, extended", enter_extended, &ring);
    return 0;
}
