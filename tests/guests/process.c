// The process as the program sees it: arguments, auxiliary vector, names, descriptors, vfork,
// posix_spawn, execve, seccomp.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void names(const char *expected)
{
    char text[4096] = {0}, real[4096] = {0};
    ssize_t n = readlink("/proc/self/exe", text, sizeof(text) - 1);
    char *ignored = realpath(expected, real);
    (void)ignored;
    printf("exe: %d %d\n", n > 0, strcmp(text, real) == 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    char magic[4] = {0};
    n = read(fd, magic, 4);
    printf("open exe: %zd %d\n", n, memcmp(magic, "\177ELF", 4) == 0);
    close(fd);
    prctl(PR_GET_NAME, text);
    printf("name: %s\n", text);
    fd = open("/proc/self/cmdline", O_RDONLY);
    n = read(fd, text, sizeof(text));
    for (ssize_t i = 0; i < n; i++)
        putchar(text[i] ? text[i] : '|');
    printf("\n");
    close(fd);
}

static int spawn(const char *path)
{
    pid_t pid;
    int status = -1;
    char *argv[] = {"echo", "spawned", NULL};
    int err = posix_spawn(&pid, path, NULL, NULL, argv, environ);
    if (!err)
        waitpid(pid, &status, 0);
    printf("posix_spawn: %s status %d\n", strerror(err), status);
    return err;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    for (int i = 1; i < argc; i++)
        printf("argument: %s\n", argv[i]);
    const Elf64_Phdr *phdr = (const Elf64_Phdr *)getauxval(AT_PHDR);
    printf("auxv: %lu %d %d %d %s\n", getauxval(AT_PAGESZ), phdr != NULL,
           getauxval(AT_SYSINFO_EHDR) != 0, getauxval(AT_RANDOM) != 0,
           strcmp((char *)getauxval(AT_EXECFN), argv[0]) == 0 ? "execfn" : "other");
    names(argv[0]);
    struct timespec a, b, c;
    clock_gettime(CLOCK_MONOTONIC, &a);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b);
    clock_gettime(CLOCK_MONOTONIC, &c);
    printf("time in order: %d\n", a.tv_sec * 1e9 + a.tv_nsec <= b.tv_sec * 1e9 + b.tv_nsec &&
                                      b.tv_sec * 1e9 + b.tv_nsec <= c.tv_sec * 1e9 + c.tv_nsec);
    printf("cpu: %d\n", sched_getcpu() >= 0 && sched_getcpu() < 4096);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    syscall(SYS_close_range, 3, ~0U, 0);
    printf("dup2: %d\n", dup2(1, 960));
    printf("closed: %d %d\n", close(960), close(960));
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/echo", "echo", "vfork and exec", NULL);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    printf("vfork: %d\n", status);
    spawn("/bin/echo");
    spawn("/nonexistent");
    execl("/nonexistent", "x", NULL);
    printf("failed exec: %s\n", strerror(errno));
    child = fork();
    if (child == 0) {
        struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {.len = 1, .filter = allow};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        printf("seccomp: %d\n", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        ssize_t n = write(1, "strict\n", 7);
        syscall(SYS_exit, n != 7);
    }
    waitpid(child, &status, 0);
    printf("filtered child: %x\n", (unsigned)status);
    fflush(stdout);
    execl("/bin/sh", "sh", "-c", "echo execve; exit 4", NULL);
    return 1;
}
