// Epoll instances that are asked for events at once, while nothing is in them, and whenever
// somebody has added something: by every way that another may have come to the instance.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int wrong, ready, pair[2];

static void check(const char *what, long got, long right)
{
    if (got != right)
        printf("%s: %ld, not %ld\n", what, got, right), wrong = 1;
}

static long events(int fd)
{
    struct epoll_event list[4];
    return epoll_wait(fd, list, 4, 0);
}

static long add(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(fd, EPOLL_CTL_ADD, ready, &event);
}

static void *add_in_thread(void *fd)
{
    check("add", add(*(int *)fd), 0);
    return NULL;
}

static void by_duplicate(int fd, int how)
{
    int other = how == 0 ? dup(fd) : how == 1 ? fcntl(fd, F_DUPFD_CLOEXEC, 100) : dup2(fd, 200);
    check("duplicate", events(other), 0);
    check("add", add(other), 0);
    check("added by a duplicate", events(fd), 1);
    close(other);
}

static void by_child(int fd)
{
    int status = -1;
    if (fork() == 0)
        _exit(events(fd) != 0 || add(fd) != 0 || events(fd) != 1);
    check("child", wait(&status) > 0 ? status : -1, 0);
    check("added by a child", events(fd), 1);
}

static void by_message(int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    int other;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    check("send", sendmsg(pair[0], &message, 0), 1);
    check("receive", recvmsg(pair[1], &message, 0), 1);
    memcpy(&other, CMSG_DATA(&control.header), sizeof(other));
    check("add", add(other), 0);
    check("added by a receiver", events(fd), 1);
    close(other);
}

// The number is another file's, or nobody's.
static void replaced(void)
{
    int fd = epoll_create1(0), other = epoll_create1(EPOLL_CLOEXEC);
    check("other", events(other), 0);
    dup2(ready, other);
    check("no longer one", events(other) == -1 ? errno : 0, EINVAL);
    check("close", close(other), 0);
    check("closed", events(other) == -1 ? errno : 0, EBADF);
    check("reused", epoll_create(1), other);
    check("add", add(other), 0);
    check("reused and filled", events(other), 1);
    close(other);
    close(fd);
}

static void bad_ones(int fd)
{
    struct epoll_event list[1];
    sigset_t mask = {0};
    check("none wanted", epoll_wait(fd, list, 0, 0) == -1 ? errno : 0, EINVAL);
    check("many wanted", syscall(SYS_epoll_wait, fd, list, 1 << 30, 0) == -1 ? errno : 0, EINVAL);
    check("bad place", syscall(SYS_epoll_wait, fd, -4096L, 1, 0) == -1 ? errno : 0, EFAULT);
    check("no place", syscall(SYS_epoll_wait, fd, NULL, 1, 0), 0);
    check("with a mask", epoll_pwait(fd, list, 1, 0, &mask), 0);
    check("without", epoll_pwait(fd, list, 1, 0, NULL), 0);
    check("a while", epoll_wait(fd, list, 1, 1), 0);
    check("flags", epoll_create1(1) == -1 ? errno : 0, EINVAL);
    check("size", epoll_create(0) == -1 ? errno : 0, EINVAL);
}

int main(int argc, char **argv)
{
    int ends[2], fd, emptied;
    (void)argv;
    if (argc > 1) { // as a scheduler asks again and again
        fd = epoll_create(5);
        for (int i = 0; i < 100; i++)
            check("only", events(fd), 0);
        return wrong;
    }
    check("pipe", pipe(ends), 0);
    check("write", write(ends[1], "x", 1), 1);
    ready = ends[0];
    check("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    replaced();
    emptied = epoll_create1(0);
    bad_ones(emptied);
    check("add", add(emptied), 0);
    check("added", events(emptied), 1);
    check("remove", epoll_ctl(emptied, EPOLL_CTL_DEL, ready, NULL), 0);
    check("removed", events(emptied), 0);
    for (int how = 0; how < 3; how++)
        by_duplicate(epoll_create1(0), how);
    by_child(epoll_create1(0));
    by_message(epoll_create1(0));
    fd = epoll_create1(0);
    check("before the thread", events(fd), 0);
    pthread_t thread;
    pthread_create(&thread, NULL, add_in_thread, &fd);
    pthread_join(thread, NULL);
    check("added by a thread", events(fd), 1);
    printf("%s\n", wrong ? "wrong" : "right");
    return wrong;
}
