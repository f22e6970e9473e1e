// Process, thread and user numbers where they change.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int wrong;

// What /proc says, which nobody overrides: "Uid: real effective ...".
static long of_proc(const char *key, int field)
{
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/thread-self/status", "r");
    while (fgets(line, sizeof(line), file)) {
        int at = 0;
        for (; key[at] && line[at] == key[at]; at++)
            ;
        if (key[at] || line[at] != ':')
            continue;
        char *from = line + at + 1;
        for (int i = 0; i <= field; i++)
            value = strtol(from, &from, 10);
    }
    fclose(file);
    return value;
}

static void check(const char *what)
{
    long calls[][2] = {{syscall(SYS_getpid), getpid()}, {syscall(SYS_gettid), gettid()},
                       {syscall(SYS_getuid), getuid()}, {syscall(SYS_geteuid), geteuid()},
                       {syscall(SYS_getgid), getgid()}, {syscall(SYS_getegid), getegid()}};
    long right[] = {of_proc("Tgid", 0), of_proc("Pid", 0), of_proc("Uid", 0),
                    of_proc("Uid", 1),  of_proc("Gid", 0), of_proc("Gid", 1)};
    for (int i = 0; i < 6; i++)
        if (calls[i][0] != right[i] || calls[i][1] != right[i]) {
            printf("%s: %d: %ld %ld, not %ld\n", what, i, calls[i][0], calls[i][1], right[i]);
            wrong = 1;
        }
}

static void in_child(const char *what, pid_t pid)
{
    int status;
    if (pid == 0) {
        check(what);
        _exit(wrong);
    }
    waitpid(pid, &status, 0);
    wrong |= status != 0;
}

// Write a line to a file of a process's in /proc.
static void tell(pid_t pid, const char *name, const char *format, ...)
{
    char path[64];
    va_list list;
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    int fd = open(path, O_WRONLY);
    va_start(list, format);
    wrong |= fd < 0 || vdprintf(fd, format, list) < 0;
    va_end(list);
    close(fd);
}

// A user namespace begins without numbers, and gets them from outside.
static void in_namespace(void)
{
    int ready[2], mapped[2];
    char there = 'n';
    wrong |= pipe(ready) || pipe(mapped);
    pid_t pid = fork();
    if (pid == 0) {
        there = unshare(CLONE_NEWUSER) ? 'n' : 'y'; // they may not be allowed
        check("not mapped");
        wrong |= write(ready[1], &there, 1) != 1 || read(mapped[0], &there, 1) != 1;
        check("mapped");
        wrong |= there == 'y' && (getuid() != 7 || getgid() != 8);
        _exit(wrong);
    }
    wrong |= read(ready[0], &there, 1) != 1;
    if (there == 'y') {
        tell(pid, "setgroups", "deny");
        tell(pid, "uid_map", "7 %u 1", geteuid());
        tell(pid, "gid_map", "8 %u 1", getegid());
    }
    wrong |= write(mapped[1], &there, 1) != 1;
    in_child("a user namespace", pid);
}

static void *thread(void *what)
{
    check(what);
    // Of this thread alone, as the call is in Linux.
    if (syscall(SYS_geteuid) == 0) {
        syscall(SYS_setresuid, -1, 1234, -1);
        check("a thread's own user");
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    check("first");
    check("again");
    in_child("fork", fork());
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, thread, (void *)"thread");
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    check("after threads");
    pid_t pid = vfork();
    if (pid == 0) {
        int other = getpid() != (int)syscall(SYS_getpid) || getpid() == getppid();
        _exit(other);
    }
    in_child("vfork", pid);
    in_namespace();
    if (getuid() == 0 && setgid(4321) == 0 && setuid(1234) == 0)
        check("another user");
    in_child("fork of another user", fork());
    puts(wrong ? "wrong" : "right");
    return wrong;
}
