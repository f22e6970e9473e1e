// Proves that a program finds the descriptors that it has opened, and no others, whatever it asks.
#include "guest.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { LAST = 4096 };

static long try_fstat(int fd)
{
    struct stat st;
    return fstat(fd, &st);
}

static long try_statx(int fd)
{
    char st[256];
    return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, st);
}

static long try_flags(int fd)
{
    return fcntl(fd, F_GETFD);
}

static long try_dup(int fd)
{
    int copy = dup(fd);
    return copy < 0 ? copy : close(copy);
}

static long try_dup2(int fd)
{
    return dup2(fd, fd);
}

// KVM_GET_API_VERSION.
static long try_ioctl(int fd)
{
    return ioctl(fd, 0xae00, 0) == -1 && errno == EBADF ? -1 : 0;
}

static long try_mmap(int fd)
{
    void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return errno == EBADF ? -1 : 0;
    return munmap(page, PAGE);
}

static long try_read(int fd)
{
    return read(fd, NULL, 0) == -1 && errno == EBADF ? -1 : 0;
}

static long try_writev(int fd)
{
    struct iovec none = {0};
    return writev(fd, &none, 0) == -1 && errno == EBADF ? -1 : 0;
}

static long try_epoll(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    bool open = fd != epoll && (!epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) || errno != EBADF);
    close(epoll);
    return open ? 0 : -1;
}

static void look(const char *when)
{
    static const struct {
        const char *name;
        long (*try)(int fd);
    } ways[] = {
        {"fstat", try_fstat},   {"statx", try_statx}, {"fcntl", try_flags}, {"dup", try_dup},
        {"dup2", try_dup2},     {"ioctl", try_ioctl}, {"mmap", try_mmap},   {"read", try_read},
        {"writev", try_writev}, {"epoll", try_epoll},
    };
    for (unsigned i = 0; i < COUNT(ways); i++) {
        char text[400] = "";
        int used = 0;
        for (int fd = 0; fd < LAST && used < (int)sizeof(text) - 8; fd++)
            if (ways[i].try(fd) != -1)
                used += sprintf(text + used, " %d", fd);
        char name[64];
        snprintf(name, sizeof(name), "%s, %s", when, ways[i].name);
        say(name, "%s", text);
    }
}

int main(void)
{
    int far = dup2(open("/dev/null", O_RDWR), 1000);
    look("at first");
    close(far);
    // What is close to the limit is no different.
    struct rlimit low = {.rlim_cur = 32, .rlim_max = 32};
    setrlimit(RLIMIT_NOFILE, &low);
    look("with a low limit");
    pid_t child = fork();
    if (child == 0) {
        look("in a child");
        return 0;
    }
    waitpid(child, NULL, 0);
    return 3;
}
