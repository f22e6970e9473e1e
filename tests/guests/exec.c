// Proves execve: what is kept (pid, mask, ignored signals, pending signals, descriptors, cwd) and
// what is not; from a thread; failing ones after which the program goes on; scripts; big arguments.
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static volatile sig_atomic_t hits;
static char **environment, **volatile bad_argv = (char **)8;

static void handler(int sig)
{
    (void)sig;
    hits++;
}

static void *exec_self(void *arg)
{
    execve("/proc/self/exe", (char *[]){"exec", arg, "from-thread", NULL}, environment);
    return NULL;
}

static void *spin(void *arg)
{
    for (;;)
        *(volatile int *)arg += 1;
    return NULL;
}

static void fail(const char *name, const char *path, char *const argv[])
{
    execve(path, argv, environment);
    say(name, "%s", error_name(errno));
}

static int second_life(char **argv)
{
    sigset_t mask, pending;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigpending(&pending);
    struct sigaction usr1, hup;
    sigaction(SIGUSR1, NULL, &usr1);
    sigaction(SIGHUP, NULL, &hup);
    stack_t stack;
    sigaltstack(NULL, &stack);
    say("second life", "%s same pid %s tid %s", argv[2], yes(atoi(argv[1]) == getpid()),
        yes(gettid() == getpid()));
    say("blocked", "USR2 %d USR1 %d SEGV %d", sigismember(&mask, SIGUSR2),
        sigismember(&mask, SIGUSR1), sigismember(&mask, SIGSEGV));
    say("pending", "USR2 %d", sigismember(&pending, SIGUSR2));
    say("dispositions", "USR1 %s HUP %s", usr1.sa_handler == SIG_DFL ? "default" : "other",
        hup.sa_handler == SIG_IGN ? "ignored" : "other");
    say("alternate stack", "%d", stack.ss_flags);
    say("descriptors", "%d %d", fcntl(40, F_GETFD), fcntl(41, F_GETFD));
    say("environment", "%s", getenv("KEPT") ? getenv("KEPT") : "none");
    return 8;
}

int main(int argc, char **argv)
{
    (void)argc;
    if (argc > 2)
        return second_life(argv);
    environment = (char *[]){"KEPT=this", NULL};
    signal(SIGUSR1, handler);
    signal(SIGHUP, SIG_IGN);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGSEGV);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    dup2(1, 40);
    fcntl(dup2(1, 41), F_SETFD, FD_CLOEXEC);

    char *no_argv[] = {"x", NULL};
    fail("missing", "/nonexistent", no_argv);
    fail("directory", "/tmp", no_argv);
    fail("no directory", "/etc/passwd/x", no_argv);
    fail("null path", NULL, no_argv);
    fail("bad argv", "/bin/true", bad_argv);
    char directory[] = "/tmp/exec-guest-XXXXXX", path[64];
    NEED(mkdtemp(directory) && chdir(directory) == 0);
    snprintf(path, sizeof(path), "%s/file", directory);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    NEED(write(fd, "no program", 10) == 10);
    fail("no permission", path, no_argv);
    NEED(fchmod(fd, 0700) == 0);
    fail("open for writing", path, no_argv);
    close(fd);
    fail("no format", path, no_argv);
    char *huge = malloc(300000);
    memset(huge, 'a', 299999);
    huge[299999] = 0;
    fail("argument too big", "/bin/true", (char *[]){"x", huge, NULL});
    // After the failures everything still is as it was.
    raise(SIGUSR1);
    say("handler still there", "%d", hits);
    pid_t child = fork();
    if (child == 0)
        execve("/bin/sh", (char *[]){"sh", "-c", "exit 4", NULL}, environment);
    wait_and_say("child", child);

    FILE *script = fopen("script", "w");
    NEED(script);
    fputs("#!/bin/sh -e\necho script \"$@\"\nexit 5\n", script);
    fclose(script);
    chmod("script", 0700);
    child = fork();
    if (child == 0)
        execve("script", (char *[]){"ignored", "a b", "c", NULL}, environment);
    wait_and_say("script", child);
    unlink("script");
    unlink(path);
    NEED(chdir("/") == 0 && rmdir(directory) == 0);

    char pid[20];
    raise(SIGUSR2);
    child = fork();
    if (child == 0) {
        snprintf(pid, sizeof(pid), "%d", getpid());
        raise(SIGUSR2);
        execve("/proc/self/exe", (char *[]){"exec", pid, "from-main", NULL}, environment);
    }
    wait_and_say("second life of a child", child);

    pthread_t thread;
    static int counters[2];
    for (int i = 0; i < 2; i++)
        NEED(pthread_create(&thread, NULL, spin, &counters[i]) == 0);
    snprintf(pid, sizeof(pid), "%d", getpid());
    NEED(pthread_create(&thread, NULL, exec_self, pid) == 0);
    for (;;)
        pause();
}
