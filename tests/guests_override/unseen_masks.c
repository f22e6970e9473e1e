// Proves that what Linux does with signals is what it does natively where it may not know what a
// thread blocks: waits that are not to be interrupted, signals that are ignored unless they are
// blocked, signals for a thread by calls that do not look so, threads that end.
#include "masks.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

enum { ROUNDS = 20, SENT = 6000, SWITCHES = 3, CROWD = 200 };

static const uint64_t all = ~0UL;
static atomic_int hits, asked, done;
static atomic_long handled_by;

static void count(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    handled_by = syscall(SYS_gettid);
    hits++;
}

static int ends[2];

// Send a signal to a thread that waits, then what it waits for.
static void *interrupt(void *arg)
{
    set_mask(all);
    for (int i = 1; i <= ROUNDS; i++) {
        while (asked < i)
            sched_yield();
        pass_ms(2); // it has begun to wait by then; if not, less is seen
        NEED(kill(getpid(), SIGUSR1) == 0);
        pass_ms(2);
        NEED(write(ends[1], "x", 1) == 1);
    }
    return arg;
}

static void waits(void)
{
    pthread_t thread;
    bool whole = true, handled = true;
    char byte;
    NEED(pipe(ends) == 0);
    NEED(pthread_create(&thread, NULL, interrupt, NULL) == 0);
    for (int i = 1; i <= ROUNDS; i++) {
        uint64_t before = mask_now();
        hits = 0;
        set_mask(all);
        asked = i;
        whole = read(ends[0], &byte, 1) == 1 && whole;
        whole = whole && hits == 0;
        set_mask(before);
        handled = handled && hits == 1;
    }
    NEED(pthread_join(thread, NULL) == 0);
    say("waits", "whole %s, handled after %s", yes(whole), yes(handled));
}

// SIGCHLD is ignored by default, unless it is blocked.
static void ignored(const char *name, uint64_t mask, bool before_fork)
{
    atomic_int *go = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(go != MAP_FAILED);
    bool seen = true;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before = mask_now();
        sigset_t chld;
        struct timespec none = {0};
        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        *go = before_fork;
        if (before_fork)
            set_mask(mask);
        pid_t child = fork();
        if (child == 0) {
            while (!*go)
                continue;
            _exit(0);
        }
        if (!before_fork)
            set_mask(mask);
        *go = true;
        pass_here();
        pass_here();
        siginfo_t info; // on a busy machine it may not have ended yet
        NEED(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
        seen = sigtimedwait(&chld, NULL, &none) == SIGCHLD && seen;
        NEED(waitpid(child, NULL, 0) == child);
        set_mask(before);
    }
    NEED(munmap(go, PAGE) == 0);
    say(name, "%s", yes(seen));
}

static pid_t waiter;

// Ways to send a signal to one thread that look as if it was for the process.
static void send_to(int way)
{
    siginfo_t info = {.si_code = SI_QUEUE};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    struct f_owner_ex owner = {F_OWNER_TID, waiter};
    int timer, pair[2];
    event._sigev_un._tid = waiter;
    switch (way) {
    case 0:
        NEED(syscall(SYS_rt_tgsigqueueinfo, getpid(), waiter, SIGUSR1, &info) == 0);
        return;
    case 1:
        NEED(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0);
        NEED(syscall(SYS_timer_settime, timer, 0, &soon, NULL) == 0);
        return;
    default:
        NEED(pipe(pair) == 0 && fcntl(pair[0], F_SETOWN_EX, &owner) == 0);
        NEED(fcntl(pair[0], F_SETSIG, SIGUSR1) == 0 && fcntl(pair[0], F_SETFL, O_ASYNC) == 0);
        NEED(write(pair[1], "x", 1) == 1);
    }
}

static void *send_one(void *arg)
{
    while (!asked)
        continue;
    send_to((int)(uintptr_t)arg);
    done = 1;
    return NULL;
}

// What it switches off is off for good, so in a process of its own. The sender blocks nothing.
static void to_one_thread(int way)
{
    asked = done = hits = 0;
    waiter = (pid_t)syscall(SYS_gettid);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, send_one, (void *)(uintptr_t)way) == 0);
    uint64_t before = mask_now();
    set_mask(all);
    asked = 1;
    while (!done)
        continue;
    pass_here();
    bool held = hits == 0;
    set_mask(before);
    pass_ms(1);
    bool handled = hits == 1 && handled_by == waiter, same = mask_now() == before;
    NEED(pthread_join(thread, NULL) == 0);
    set_mask(all);
    NEED(kill(getpid(), SIGUSR1) == 0);
    held = held && hits == 1;
    set_mask(before);
    say("for one thread", "held %s, handled by it %s, mask %s, then %d", yes(held), yes(handled),
        yes(same), hits);
}

static void switches(void)
{
    for (int way = 0; way < SWITCHES; way++) {
        pid_t child = fork();
        if (child == 0) {
            to_one_thread(way);
            _exit(0);
        }
        wait_and_say("its process", child);
    }
}

static void pass_us(long us)
{
    struct timespec time = {.tv_nsec = us * 1000};
    nanosleep(&time, NULL);
}

static void *end_at_once(void *arg)
{
    return arg;
}

static void *stay(void *arg)
{
    char byte;
    NEED(read(ends[0], &byte, 1) == 1);
    return arg;
}

// Many threads at once: while they are made others that end wait for their turn.
static void *make_crowd(void *arg)
{
    pthread_t thread[CROWD];
    while (!hits)
        sched_yield();
    for (int i = 0; i < CROWD; i++)
        NEED(pthread_create(&thread[i], NULL, stay, NULL) == 0);
    for (int i = 0; i < CROWD; i++)
        NEED(write(ends[1], "x", 1) == 1);
    for (int i = 0; i < CROWD; i++)
        NEED(pthread_join(thread[i], NULL) == 0);
    return arg;
}

// Signals for the process that only threads take which are about to end.
static void ends_of_threads(void)
{
    pid_t parent = getpid();
    pthread_t crowd;
    pthread_attr_t attr;
    sigset_t none;
    handle(SIGRTMIN, count, SA_RESTART);
    sigemptyset(&none);
    pthread_attr_init(&attr);
    NEED(pthread_attr_setsigmask_np(&attr, &none) == 0);
    uint64_t before = mask_now();
    set_mask(1UL << (SIGRTMIN - 1));
    hits = 0;
    NEED(pthread_create(&crowd, NULL, make_crowd, NULL) == 0);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < SENT; i++) {
            while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = i}))
                sched_yield();
            pass_us(20);
        }
        _exit(0);
    }
    while (waitpid(child, NULL, WNOHANG) == 0) {
        pthread_t thread[4];
        for (size_t i = 0; i < COUNT(thread); i++)
            NEED(pthread_create(&thread[i], &attr, end_at_once, NULL) == 0);
        for (size_t i = 0; i < COUNT(thread); i++)
            NEED(pthread_join(thread[i], NULL) == 0);
    }
    NEED(pthread_join(crowd, NULL) == 0);
    set_mask(before);
    for (int i = 0; i < 1000 && hits < SENT; i++)
        pass_ms(5);
    say("handled", "%d of %d", hits, SENT);
}

int main(void)
{
    handle(SIGUSR1, count, 0);
    waits();
    ignored("ignored unless blocked", 1UL << (SIGCHLD - 1), false);
    ignored("of a child made later", all, true);
    switches();
    ends_of_threads();
    return 0;
}
