// Proves calls on files and descriptors: getdents, descriptors passed over a socket, a pipe whose
// reader is gone, closing every descriptor there is, dup2 to high numbers, fcntl, umask, cwd.
#include "guest.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int send_fd(int socket, int fd)
{
    char byte = 'f', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    return (int)sendmsg(socket, &message, 0);
}

static int receive_fd(int socket)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    NEED(recvmsg(socket, &message, 0) == 1);
    int fd = -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

int main(void)
{
    char directory[] = "/tmp/files-guest-XXXXXX";
    NEED(mkdtemp(directory));
    NEED(chdir(directory) == 0);
    char cwd[100];
    say("cwd", "%s", yes(getcwd(cwd, sizeof(cwd)) && !strcmp(cwd, directory)));
    umask(027);
    for (int i = 0; i < 300; i++) {
        char name[40];
        snprintf(name, sizeof(name), "file-with-a-longer-name-%d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0666);
        NEED(fd >= 0);
        close(fd);
    }
    struct stat st;
    NEED(stat("file-with-a-longer-name-7", &st) == 0);
    say("mode", "%o", st.st_mode);
    DIR *dir = opendir(".");
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(dir)); entries++)
        if (entry->d_name[0] == 'f')
            NEED(unlink(entry->d_name) == 0);
    closedir(dir);
    say("entries", "%d", entries);
    NEED(chdir("/") == 0 && rmdir(directory) == 0);

    int sockets[2], pipes[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = receive_fd(sockets[1]);
        _exit(write(fd, "through a passed descriptor", 27) == 27 ? 0 : 1);
    }
    NEED(pipe(pipes) == 0);
    NEED(send_fd(sockets[0], pipes[1]) == 1);
    char text[100] = {0};
    NEED(read(pipes[0], text, sizeof(text)) > 0);
    say("read", "%s", text);
    wait_and_say("child", child);

    close(pipes[0]);
    signal(SIGPIPE, SIG_IGN);
    say("write without a reader", "%s", outcome(write(pipes[1], "x", 1)));
    child = fork();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        (void)!write(pipes[1], "x", 1);
        _exit(9);
    }
    wait_and_say("and without SIG_IGN", child);

    // Lowest free numbers are what they are natively, whatever else is open.
    say("next descriptor", "%d", dup(1) - sockets[0]);
    struct rlimit limit;
    NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int high = (int)limit.rlim_cur - 1;
    say("dup2 to the highest", "%s", yes(dup2(1, high) == high));
    say("beyond", "%s", outcome(dup2(1, high + 1)));
    for (int i = 0; i < 200; i++) // anywhere, also where somebody else might hide something
        NEED(dup2(1, high - i) == high - i);
    (void)!write(high - 150, "written to a high descriptor\n", 29);
    for (int fd = 3; fd <= high && fd < 30000; fd++)
        close(fd);
    say("closed one by one", "%s", outcome(fcntl(high, F_GETFD)));
    int count = 0;
    dir = opendir("/proc/self/fd");
    NEED(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    NEED(syscall(SYS_close_range, 3, ~0U, 0) == 0);
    say("after close_range", "%d", dup(1));
    child = fork();
    if (child == 0)
        _exit(3);
    wait_and_say("fork still works", child);
    NEED(syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */) == 0);
    say("cloexec", "%d", fcntl(3, F_GETFD));
    say("dupfd", "%d", fcntl(1, F_DUPFD, 700));
    NEED(setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 10, .rlim_max = limit.rlim_max}) ==
         0);
    int last = 0;
    for (int fd; (fd = dup(1)) >= 0;)
        last = fd;
    say("last under a limit of 10", "%d %s", last, error_name(errno));
    return 0;
}
