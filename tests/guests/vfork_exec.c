// Proves vfork: the child runs in the parent's memory while the parent waits, and ends by exec, by
// a failing exec and _exit, or by a signal.
#include "guest.h"

static volatile int shared;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    shared += sig;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        say("new program", "%s, parent waits for it", argv[1]);
        return 7;
    }
    pid_t child = vfork();
    if (child == 0) {
        shared = 42;
        _exit(4);
    }
    say("parent sees", "%d", shared);
    wait_and_say("_exit", child);

    child = vfork();
    if (child == 0) {
        execl("/proc/self/exe", "again", "with an argument", (char *)NULL);
        _exit(99);
    }
    wait_and_say("exec of itself", child);

    child = vfork();
    if (child == 0) {
        execl("/nonexistent/program", "x", (char *)NULL);
        shared = errno;
        _exit(127);
    }
    say("failing exec", "%s", error_name(shared));
    wait_and_say("then", child);

    child = vfork();
    if (child == 0) {
        kill(getpid(), SIGKILL);
        for (;;)
            continue;
    }
    wait_and_say("killed", child);

    handle(SIGUSR1, handler, 0);
    shared = 0;
    child = vfork();
    if (child == 0) {
        raise(SIGUSR1); // the handler runs in the child, in the parent's memory
        shared += 100;
        execl("/bin/sh", "sh", "-c", "exit 3", (char *)NULL);
        _exit(99);
    }
    wait_and_say("sh", child);
    say("handler in child", "%d", shared == SIGUSR1 + 100);

    static int i;
    for (i = 0; i < 20; i++) {
        child = vfork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(99);
        }
        int status;
        NEED(waitpid(child, &status, 0) == child && status == 0);
    }
    say("repeated", "20");
    return 0;
}
