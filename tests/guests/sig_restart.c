// Proves which system calls go on after a handler (SA_RESTART) and which end with EINTR, with and
// without SA_RESTART, and what is left of the time in sleeps.
#include "guest.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

static volatile sig_atomic_t hits;
static volatile int wake_fd = -1;
static bool restarts;
enum { LONG_S = 1000 }; // no wait is over before it is interrupted, on however busy a machine

// The third signal, and each behind it, lets restarted calls end; nothing lets the others end.
static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    if (++hits >= 3 && restarts && wake_fd >= 0)
        NEED(write(wake_fd, "x", 1) == 1);
}

static void storm(long us)
{
    struct itimerval timer = {{0, us}, {0, us}};
    hits = 0;
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void calm(void)
{
    struct itimerval timer = {0};
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void try(const char *name, long (*call)(void))
{
    static const int flags[] = {0, SA_RESTART};
    for (unsigned i = 0; i < COUNT(flags); i++) {
        handle(SIGALRM, handler, flags[i]);
        restarts = flags[i];
        wake_fd = -1;
        storm(5000);
        long result = call();
        int error = errno;
        calm();
        errno = error;
        say(name, "%s: %s", flags[i] ? "SA_RESTART" : "plain", outcome(result));
    }
}

static long read_pipe(void)
{
    int fds[2];
    NEED(pipe(fds) == 0);
    wake_fd = fds[1];
    char byte;
    return read(fds[0], &byte, 1);
}

static long receive(void)
{
    int fds[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    wake_fd = fds[1];
    char byte;
    return recv(fds[0], &byte, 1, 0);
}

static long receive_timeout(void)
{
    int fds[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    struct timeval timeout = {.tv_sec = LONG_S};
    NEED(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0);
    char byte;
    return recv(fds[0], &byte, 1, 0);
}

static long poll_none(void)
{
    return poll(NULL, 0, LONG_S * 1000);
}

static long select_none(void)
{
    struct timeval timeout = {.tv_sec = LONG_S};
    return select(0, NULL, NULL, NULL, &timeout);
}

static long epoll_none(void)
{
    struct epoll_event event;
    return epoll_wait(epoll_create1(0), &event, 1, LONG_S * 1000);
}

static long sleep_relative(void)
{
    struct timespec time = {.tv_sec = LONG_S}, left = {.tv_sec = 77};
    int result = nanosleep(&time, &left);
    say("  left", "%s", yes(left.tv_sec > LONG_S / 2 && left.tv_sec < LONG_S));
    return result;
}

static long sleep_absolute(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += LONG_S;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    return errno ? -1 : 0;
}

static long wait_child(void)
{
    int fds[2], status;
    NEED(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        NEED(read(fds[0], &byte, 1) == 1);
        _exit(3);
    }
    wake_fd = fds[1];
    long result = waitpid(child, &status, 0);
    int error = errno;
    if (result == -1) {
        NEED(write(fds[1], "x", 1) == 1);
        while (waitpid(child, NULL, 0) == -1)
            continue;
    }
    errno = error;
    return result;
}

static long futex_timeout(void)
{
    uint32_t word = 0;
    struct timespec timeout = {.tv_sec = LONG_S};
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout, NULL, 0);
}

static long semaphore(void)
{
    sem_t sem;
    sem_init(&sem, 0, 0);
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_sec += LONG_S;
    return sem_timedwait(&sem, &time);
}

static long condition(void)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += 60000000;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    pthread_mutex_lock(&mutex);
    errno = pthread_cond_timedwait(&cond, &mutex, &time);
    pthread_mutex_unlock(&mutex);
    return errno ? -1 : 0;
}

static long pause_once(void)
{
    return pause();
}

int main(void)
{
    try("read of a pipe", read_pipe);
    try("recv", receive);
    try("recv with a timeout", receive_timeout);
    try("poll", poll_none);
    try("select", select_none);
    try("epoll_wait", epoll_none);
    try("nanosleep", sleep_relative);
    try("clock_nanosleep", sleep_absolute);
    try("waitpid", wait_child);
    try("futex with a timeout", futex_timeout);
    try("sem_timedwait", semaphore);
    try("pthread_cond_timedwait", condition);
    try("pause", pause_once);
    return 0;
}
