// A random walk over a few files beside a model of their contents and offsets, which children,
// other descriptors, /proc, other threads and another program see, too.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILES = 4, MOST = 5000, STEPS = 6000 };

static struct walk {
    int fd;
    int size;
    long at;
    int append;
    char content[MOST];
} walks[FILES];

static unsigned seed;

static unsigned number(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % below;
}

static void fail(const char *what, long got, long right)
{
    printf("%s: %ld, not %ld\n", what, got, right);
    exit(1);
}

static void check(const char *what, long got, long right)
{
    if (got != right)
        fail(what, got, right);
}

// What /proc says, by a file that was opened before the offset moved, or is opened now.
static long shown(int fd, int info)
{
    char name[64], text[256];
    long at = -1;
    snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
    int own = info >= 0 ? info : open(name, O_RDONLY);
    long n = info >= 0 ? pread(own, text, sizeof(text) - 1, 0) : read(own, text, sizeof(text) - 1);
    if (n > 0) {
        text[n] = 0;
        sscanf(text, "pos: %ld", &at);
    }
    if (info < 0)
        close(own);
    return at;
}

static void open_file(struct walk *walk)
{
    char name[] = "/tmp/offsetsXXXXXX";
    walk->fd = mkstemp(name);
    check("unlink", unlink(name), 0);
    walk->size = 1 + (int)number(MOST - 1);
    for (int i = 0; i < walk->size; i++)
        walk->content[i] = (char)number(256);
    check("write", write(walk->fd, walk->content, (size_t)walk->size), walk->size);
    walk->at = walk->size;
    walk->append = 0;
}

static int readable(const struct walk *walk, int size)
{
    long left = walk->at < walk->size ? walk->size - walk->at : 0;
    return left < size ? (int)left : size;
}

static void expect(const struct walk *walk, const char *what, const char *got, long n, int size)
{
    check(what, n, readable(walk, size));
    if (memcmp(got, walk->content + walk->at, (size_t)n))
        fail(what, -1, 0);
}

static void read_some(struct walk *walk, int vector)
{
    char buffer[700];
    int size = (int)number(sizeof(buffer));
    struct iovec parts[] = {{buffer, (size_t)size / 2},
                            {buffer + size / 2, (size_t)(size - size / 2)}};
    long n = vector ? readv(walk->fd, parts, 2) : read(walk->fd, buffer, (size_t)size);
    expect(walk, vector ? "readv" : "read", buffer, n, size);
    walk->at += n;
}

static void write_some(struct walk *walk)
{
    char buffer[300];
    int size = (int)number(sizeof(buffer));
    long at = walk->append && size ? walk->size : walk->at;
    if (at > walk->size || at + size > MOST)
        return;
    for (int i = 0; i < size; i++)
        buffer[i] = (char)number(256);
    check("write", write(walk->fd, buffer, (size_t)size), size);
    memcpy(walk->content + at, buffer, (size_t)size);
    walk->at = at + size;
    walk->size = walk->at > walk->size ? (int)walk->at : walk->size;
}

static void seek(struct walk *walk)
{
    static const long far[] = {1L << 31, 1L << 40, -1, -(1L << 40), (1L << 31) - 1};
    long by = number(9) ? (long)number(MOST) : far[number(5)], to;
    int whence = (int)number(4);
    to = whence == SEEK_SET ? by : whence == SEEK_CUR ? walk->at + by : walk->size + by;
    if (whence == 3) { // SEEK_DATA: no holes here
        to = by < walk->size && by >= 0 ? by : -1;
        check("lseek data", lseek(walk->fd, by, SEEK_DATA), to);
    } else {
        check("lseek", lseek(walk->fd, by, whence), to < 0 ? -1 : to);
    }
    walk->at = to < 0 ? walk->at : to;
}

static void to_child(struct walk *walk, int virtual)
{
    int status;
    pid_t pid = virtual ? vfork() : number(2) ? fork() : (pid_t)syscall(SYS_fork);
    if (pid == 0) {
        long at = syscall(SYS_lseek, walk->fd, 1, SEEK_CUR);
        if (virtual)
            syscall(SYS_close, walk->fd); // of a table of its own
        _exit(at == walk->at + 1 ? 7 : 1);
    }
    check("waitpid", waitpid(pid, &status, 0), pid);
    check("child", status, 7 << 8);
    walk->at++;
}

static void by_duplicate(struct walk *walk, int how)
{
    int other = how == 0   ? dup(walk->fd)
                : how == 1 ? fcntl(walk->fd, F_DUPFD, 50)
                           : dup2(walk->fd, (walk->fd >= 80 ? 70 : 80) + (int)(walk - walks));
    check("duplicate", lseek(other, 0, SEEK_CUR), walk->at);
    check("duplicate", lseek(walk->fd, 3, SEEK_SET), 3);
    check("duplicate", lseek(other, 4, SEEK_CUR), 7);
    walk->at = 7;
    check("duplicate", close(walk->fd), 0);
    walk->fd = other;
    seek(walk);
    read_some(walk, 0);
}

static void by_message(struct walk *walk)
{
    int pair[2];
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&(char){'x'}, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    *(int *)CMSG_DATA(head) = walk->fd;
    check("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    check("sendmsg", sendmsg(pair[0], &message, 0), 1);
    check("lseek", lseek(walk->fd, 11, SEEK_SET), 11);
    check("recvmsg", recvmsg(pair[1], &message, 0), 1);
    int other = *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    check("sent", lseek(other, 2, SEEK_CUR), 13);
    check("sent", lseek(walk->fd, 0, SEEK_CUR), 13);
    walk->at = 13;
    close(other), close(pair[0]), close(pair[1]);
}

static void send_some(struct walk *walk)
{
    char buffer[500];
    int ends[2], size = 1 + (int)number(sizeof(buffer) - 1);
    check("pipe", pipe(ends), 0);
    long n = number(2) ? sendfile(ends[1], walk->fd, NULL, (size_t)size)
                       : splice(walk->fd, NULL, ends[1], NULL, (size_t)size, 0);
    check("sendfile, splice", n, readable(walk, size));
    if (n)
        expect(walk, "sent", buffer, read(ends[0], buffer, sizeof(buffer)), size);
    walk->at += n;
    close(ends[0]), close(ends[1]);
}

static void change_flags(struct walk *walk)
{
    int flags = fcntl(walk->fd, F_GETFL);
    check("F_GETFL", flags & (O_ACCMODE | O_APPEND), O_RDWR | (walk->append ? O_APPEND : 0));
    walk->append = (int)number(2);
    flags = walk->append ? flags | O_APPEND : flags & ~O_APPEND;
    check("F_SETFL", fcntl(walk->fd, F_SETFL, flags), 0);
    check("F_GETFL", fcntl(walk->fd, F_GETFL), flags);
}

// A lock from where the file is: another process finds out where that was.
static void lock_there(struct walk *walk)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = 1};
    int status;
    if (walk->at > 1 << 20)
        return;
    check("F_SETLK", fcntl(walk->fd, F_SETLK, &lock), 0);
    pid_t pid = (pid_t)syscall(SYS_fork);
    if (pid == 0) {
        struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _exit(fcntl(walk->fd, F_GETLK, &all) == 0 && all.l_start == walk->at ? 7 : 1);
    }
    check("waitpid", waitpid(pid, &status, 0), pid);
    check("lock", status, 7 << 8);
    lock.l_type = F_UNLCK;
    check("F_SETLK", fcntl(walk->fd, F_SETLK, &lock), 0);
}

static void step(struct walk *walk, unsigned what)
{
    switch (what) {
    case 0:
    case 9 ... 20: // often, since what has been shared stays so until then
        check("close", close(walk->fd), 0);
        check("lseek of none", lseek(walk->fd, 0, SEEK_CUR), -1);
        check("errno", errno, EBADF);
        open_file(walk);
        break;
    case 1:
        to_child(walk, (int)number(2));
        break;
    case 2:
        by_duplicate(walk, (int)number(3));
        break;
    case 3:
        read_some(walk, 1);
        break;
    case 4:
        send_some(walk);
        break;
    case 5:
        change_flags(walk);
        break;
    case 6:
        lock_there(walk);
        break;
    case 7:
        check("shown", shown(walk->fd, -1), walk->at);
        break;
    case 8: {
        int left = 0;
        check("FIONREAD", ioctl(walk->fd, FIONREAD, &left), 0);
        check("FIONREAD", left, (int)(walk->size - walk->at));
        break;
    }
    default:
        if (what % 3 == 0)
            seek(walk);
        else if (what % 3 == 1)
            read_some(walk, 0);
        else
            write_some(walk);
    }
}

static void *in_thread(void *unused)
{
    for (int i = 0; i < STEPS / 10; i++) {
        unsigned what = number(60);
        step(&walks[number(FILES)], what == 1 || what == 6 ? 21 : what);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    char text[32], there[32];
    if (argc > 2) { // the program that this one has executed
        check("after execve", lseek(atoi(argv[1]), 0, SEEK_CUR), atol(argv[2]));
        puts("right");
        return 0;
    }
    int calls = strcmp(argv[1], "only") == 0 ? 100 : strcmp(argv[1], "often") == 0 ? 20000 : 0;
    if (calls) {
        open_file(&walks[0]);
        for (int i = 0; i < calls; i++)
            check("lseek", lseek(walks[0].fd, i % 50, SEEK_SET), i % 50);
        return 0;
    }
    seed = (unsigned)atoi(argv[1]);
    for (int i = 0; i < FILES; i++)
        open_file(&walks[i]);
    snprintf(text, sizeof(text), "/proc/self/fdinfo/%d", walks[0].fd);
    int info = open(text, O_RDONLY);
    for (int i = 0; i < 50; i++) { // before anything is shared
        step(&walks[0], 21 + number(30));
        check("shown by an open file", shown(-1, info), walks[0].at);
    }
    for (int i = 0; i < STEPS; i++)
        step(&walks[number(FILES)], number(300));
    for (int i = 0; i < FILES; i++) { // files of its own again
        close(walks[i].fd);
        open_file(&walks[i]);
    }
    for (int i = 0; i < STEPS / 10; i++)
        step(&walks[number(FILES)], 21 + number(30));
    if (atoi(argv[1]) % 2) { // no offsets are kept any more afterwards
        by_message(&walks[1]);
        pthread_create(&thread, NULL, in_thread, NULL);
        pthread_join(thread, NULL);
        in_thread(NULL);
    }
    snprintf(text, sizeof(text), "%d", walks[2].fd);
    snprintf(there, sizeof(there), "%d", 77);
    fcntl(walks[2].fd, F_SETFD, 0);
    lseek(walks[2].fd, 76, SEEK_SET);
    lseek(walks[2].fd, 77, SEEK_SET);
    execl("/proc/self/exe", argv[0], text, there, NULL);
    return 1;
}
