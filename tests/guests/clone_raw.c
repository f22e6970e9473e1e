// Proves raw clone and clone3: a thread with its own TLS that clears its tid at exit, a child with
// an exit signal of its own, pidfds, CLONE_PARENT_SETTID/CHILD_SETTID, CLONE_VM without
// CLONE_THREAD, set_robust_list, PR_SET_PDEATHSIG and what clone refuses.
#include "guest.h"

#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static volatile uint32_t thread_tid;
static volatile int shared;
static volatile sig_atomic_t got;

static int in_child(void *arg)
{
    shared += (int)(long)arg;
    return 5;
}

static int raw_thread(void *arg)
{
    (void)arg;
    shared += 100;
    syscall(SYS_exit, 0);
    return 0;
}

static void handler(int sig)
{
    got = sig;
}

int main(void)
{
    static char stack[65536] __attribute__((aligned(16))), tls[256] __attribute__((aligned(64)));
    *(void **)tls = tls;
    char *top = stack + sizeof(stack);

    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    pid_t parent_tid = 0;
    thread_tid = 1;
    int tid = clone(raw_thread, top, flags, NULL, &parent_tid, tls, &thread_tid);
    NEED(tid > 0);
    uint32_t now;
    while ((now = thread_tid))
        syscall(SYS_futex, &thread_tid, FUTEX_WAIT, now, NULL, NULL, 0);
    say("thread", "shared %d, tid told %s", shared, yes(parent_tid == tid));

    shared = 0;
    int child = clone(in_child, top, CLONE_VM | SIGCHLD, (void *)7L);
    wait_and_say("child with shared memory", child);
    say("shared", "%d", shared);
    child = clone(in_child, top, SIGCHLD, (void *)7L);
    wait_and_say("child with its own", child);
    say("shared", "%d", shared);
    child = clone(in_child, top, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, (void *)1L);
    say("shared after vfork-like", "%d", shared);
    wait_and_say("child", child);

    signal(SIGUSR2, handler);
    child = clone(in_child, top, SIGUSR2, (void *)0L);
    int status;
    NEED(waitpid(child, &status, __WALL) == child);
    say_status("exit signal USR2", status);
    say("got it", "%s", yes(got == SIGUSR2));

    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    child = (int)syscall(SYS_clone3, &args, sizeof(args));
    if (child == 0)
        _exit(getpid() == gettid() ? 6 : 7);
    say("clone3", "%s", outcome(child));
    if (child > 0) {
        struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
        NEED(poll(&poll_fd, 1, -1) == 1);
        wait_and_say("clone3 child", child);
        say("signal to the dead", "%s", outcome(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0)));
    }
    args.flags = CLONE_THREAD;
    say("thread without sighand", "%s", outcome(syscall(SYS_clone3, &args, sizeof(args))));
    say("clone3 of size 8", "%s", outcome(syscall(SYS_clone3, &args, 8)));
    say("clone3 of nothing", "%s", outcome(syscall(SYS_clone3, 8, sizeof(args))));
    say("sighand without vm", "%s", outcome(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0)));

    struct robust_list_head head = {.list = {&head.list}}, *found, *read_back;
    size_t size;
    NEED(syscall(SYS_get_robust_list, 0, &found, &size) == 0);
    say("robust list", "%s size %zu", yes(found), size);
    say("set_robust_list", "%s", outcome(syscall(SYS_set_robust_list, &head, sizeof(head))));
    say("of a wrong size", "%s", outcome(syscall(SYS_set_robust_list, &head, 3)));
    NEED(syscall(SYS_get_robust_list, 0, &read_back, &size) == 0);
    say("read back", "%s", yes(read_back == &head));
    syscall(SYS_set_robust_list, found, size);

    // A grandchild told to die with its parent.
    int ready[2];
    NEED(pipe(ready) == 0);
    child = fork();
    if (child == 0) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            NEED(write(ready[1], "x", 1) == 1);
            for (;;)
                continue;
        }
        char byte;
        NEED(read(ready[0], &byte, 1) == 1);
        _exit(4);
    }
    wait_and_say("parent of the grandchild", child);
    close(ready[1]);
    char byte;
    say("grandchild's pipe", "%ld", (long)read(ready[0], &byte, 1)); // 0 once it is gone
    return 0;
}
