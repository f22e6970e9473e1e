// Proves that the program finds itself under its own name: /proc/self/exe by every call that takes
// a path, comm, cmdline, environ, stat; and that exec of /proc/self/exe starts itself again.
#include "guest.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static void say_file(const char *name, const char *path)
{
    char text[2000] = {0};
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (size < 0)
        size = snprintf(text, sizeof(text), "%s", error_name(errno));
    for (ssize_t i = 0; i < size; i++)
        if (text[i] == 0)
            text[i] = '|';
    say(name, "%.400s", text);
    if (fd >= 0)
        close(fd);
}

static void say_link(const char *path)
{
    char text[PATH_MAX] = {0}, full[PATH_MAX] = {0};
    ssize_t size = readlink(path, text, sizeof(text) - 1);
    say("readlink", "%s", size < 0 ? error_name(errno) : text);
    say("realpath", "%s", realpath(path, full) ? full : error_name(errno));
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "again")) {
        say("again", "argv[0] %s", argv[0]);
        char text[PATH_MAX] = {0};
        say("again", "%s", readlink("/proc/self/exe", text, sizeof(text) - 1) > 0 ? text : "?");
        return 6;
    }
    char path[64];
    say_link("/proc/self/exe");
    say_link("/proc/thread-self/exe");
    snprintf(path, sizeof(path), "/proc/%d/exe", getpid());
    say_link(path);
    snprintf(path, sizeof(path), "/proc/self/task/%d/exe", gettid());
    say_link(path);
    char text[PATH_MAX] = {0};
    int proc = open("/proc/self", O_RDONLY | O_DIRECTORY);
    say("readlinkat", "%s",
        readlinkat(proc, "exe", text, sizeof(text) - 1) > 0 ? text : error_name(errno));
    say("readlink into 3 bytes", "%ld", (long)readlink("/proc/self/exe", text, 3));
    say("readlink of no link", "%s", outcome(readlink("/tmp", text, 3)));

    struct stat by_exe, by_name, by_fd;
    NEED(readlink("/proc/self/exe", text, sizeof(text) - 1) > 0);
    NEED(stat("/proc/self/exe", &by_exe) == 0);
    NEED(stat(text, &by_name) == 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    NEED(fd >= 0 && fstat(fd, &by_fd) == 0);
    say("stat is of it", "%s",
        yes(by_exe.st_ino == by_name.st_ino && by_exe.st_dev == by_name.st_dev));
    say("open is of it", "%s", yes(by_fd.st_ino == by_name.st_ino));
    char magic[4];
    NEED(read(fd, magic, 4) == 4);
    say("content", "%.3s", magic + 1);
    say("access", "%s", outcome(access("/proc/self/exe", X_OK)));
    say("lstat", "%s",
        lstat("/proc/self/exe", &by_exe) == 0 && S_ISLNK(by_exe.st_mode) ? "link" : "?");
    struct statx statx_buffer;
    NEED(statx(AT_FDCWD, "/proc/self/exe", 0, STATX_INO, &statx_buffer) == 0);
    say("statx is of it", "%s", yes(statx_buffer.stx_ino == by_name.st_ino));
    say("openat", "%s", outcome(openat(proc, "exe", O_RDONLY)));
    say("writing it", "%s", outcome(open("/proc/self/exe", O_WRONLY)));

    say_file("comm", "/proc/self/comm");
    say_file("cmdline", "/proc/self/cmdline");
    char name[16];
    prctl(PR_GET_NAME, name);
    say("PR_GET_NAME", "%s", name);
    prctl(PR_SET_NAME, "renamed");
    say_file("comm", "/proc/self/comm");
    say_file("environ", "/proc/self/environ");
    // pid (comm) state ppid ...: of this only the name and the state are the same each time.
    char stat_text[2000] = {0};
    fd = open("/proc/self/stat", O_RDONLY);
    NEED(fd >= 0 && read(fd, stat_text, sizeof(stat_text) - 1) > 0);
    char *open_paren = strchr(stat_text, '(');
    NEED(open_paren);
    say("stat", "%.11s", open_paren);
    say_file("missing", "/proc/self/nonexistent");

    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "itself", "again", (char *)NULL);
        _exit(99);
    }
    wait_and_say("exec of /proc/self/exe", child);
    child = fork();
    if (child == 0) {
        fd = open("/proc/self/exe", O_RDONLY);
        fexecve(fd, (char *[]){"by descriptor", "again", NULL}, (char *[]){NULL});
        _exit(99);
    }
    wait_and_say("fexecve", child);
    return 0;
}
