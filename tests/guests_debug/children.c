// Children of all kinds pass through a function in which a debugger has set a breakpoint.
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
volatile int passes;

__attribute__((noinline)) void passed(void)
{
    passes++;
}

static int status_of(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return 5;
    char *args[] = {argv[0], (char *)"child", NULL};
    passed();
    pid_t pid = fork();
    if (pid == 0) {
        passed();
        _exit(3);
    }
    printf("fork %d\n", status_of(pid));
    pid = vfork();
    if (pid == 0) {
        passed();
        _exit(4);
    }
    printf("vfork %d\n", status_of(pid));
    pid = -1;
    int err = posix_spawn(&pid, argv[0], NULL, NULL, args, environ);
    printf("spawn %d %d\n", err, status_of(pid));
    printf("system %d\n", WEXITSTATUS(system("exit 6")));
    passed();
    printf("passes %d\n", passes);
    fflush(stdout);
    execl("/bin/sh", "sh", "-c", "echo executed; exit 7", (char *)NULL);
    return 1;
}
