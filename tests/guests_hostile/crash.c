// Ends its virtual machine at ring 3, in ways that a program can by writing what it shares with the
// AeroKernel. Usage: crash HOW [IN]. IN: how the process is when that happens.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../guests/thread_state.h"
#include "wild.h"

KEEP static void jump(void)
{
    load_wild_frame((uint64_t)__builtin_frame_address(0));
}

// A stack that is none: there is nothing to walk.
KEEP static void stack(void)
{
    load_wild_frame(NO_ADDRESS - 16);
}

static void *ask_by_port(void *arg)
{
    pthread_barrier_wait(arg);
    syscall(SYS_getppid);
    return NULL;
}

// The first two threads at a time.
KEEP static void twice(void)
{
    pthread_barrier_t barrier;
    pthread_t thread;
    need(pthread_barrier_init(&barrier, NULL, 2) == 0);
    need(pthread_create(&thread, NULL, ask_by_port, &barrier) == 0);
    usleep(50000);
    for (uint64_t window = 0; window < 2; window++)
        ((volatile struct mv_frame *)(AK_WINDOW(window) + AK_FRAME_OFFSET))->ring = 0;
    ask_by_port(&barrier);
}

// The frame's whole page, and a system call by a port that CPL 3 may not use.
KEEP static void overwrite(void)
{
    memset((void *)frame, 0xff, PAGE);
    frame->ring = 0;
    syscall(SYS_getppid);
}

// The core's own memory, by a call that Linux executes: the pointer to the frame in the group,
// which lies before the run area of its virtual CPU (core/ros/ros.h).
KEEP static void spoil_core(void)
{
    enum { GROUP_BLOCK = 128 * 1024, FRAME_POINTER = 32 };
    uint64_t run = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && !run && fgets(line, sizeof(line), maps))
        if (strstr(line, "anon_inode:kvm-vcpu"))
            need(sscanf(line, "%lx-", &run) == 1);
    int zero = open("/dev/zero", O_RDONLY);
    syscall(SYS_read, zero, run - GROUP_BLOCK + FRAME_POINTER, sizeof(uint64_t));
}

KEEP static void do_crash(const char *how)
{
    if (strcmp(how, "jump") == 0)
        jump();
    else if (strcmp(how, "stack") == 0)
        stack();
    else if (strcmp(how, "overwrite") == 0)
        overwrite();
    else if (strcmp(how, "twice") == 0)
        twice();
    else if (strcmp(how, "core") == 0)
        spoil_core();
    _exit(EXIT_BAD);
}

static void limit(int resource, rlim_t value)
{
    struct rlimit limit = {value, value};
    need(setrlimit(resource, &limit) == 0);
}

static void *compute(void *arg)
{
    *(volatile pid_t *)arg = gettid();
    for (;;)
        __asm__ volatile("");
    return NULL;
}

static void *wait_long(void *arg)
{
    sigset_t all; // which keeps no crash from being reported
    sigfillset(&all);
    need(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    *(volatile pid_t *)arg = gettid();
    for (;;)
        pause();
    return NULL;
}

static void start(void *(*run)(void *), bool waits)
{
    static volatile pid_t begun;
    pthread_t thread;
    begun = 0;
    need(pthread_create(&thread, NULL, run, (void *)&begun) == 0);
    while (!begun || (waits && thread_state(begun) != 'S'))
        ;
}

// A stack whose upper part nobody will ever fill: Linux waits for ever to read it.
static void crash_on_missing_stack(void)
{
    char *memory = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.range = {(uint64_t)memory + PAGE, 2 * PAGE},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (fd < 0 && (errno == EPERM || errno == ENOSYS)) {
        printf("no userfaultfd\n");
        exit(0);
    }
    need(ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0);
    load_wild_frame((uint64_t)memory + PAGE - 16);
}

static void say_end(pid_t pid)
{
    int status;
    need(waitpid(pid, &status, 0) == pid);
    printf("child: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    fflush(stdout);
}

static void crash_in_child(const char *how)
{
    pid_t pid = fork();
    if (pid == 0)
        do_crash(how);
    say_end(pid);
    exit(0);
}

// Children that borrow this process's memory and VM, on the second virtual CPU.
static void crash_in_borrowers(void)
{
    for (int i = 0; i < 2; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            ((volatile struct mv_frame *)(AK_WINDOW(1UL) + AK_FRAME_OFFSET))->ring = 0;
            syscall(SYS_getppid);
            _exit(EXIT_BAD);
        }
        say_end(pid);
    }
}

static void prepare(const char *how, const char *in)
{
    if (strcmp(in, "threads") == 0) {
        start(compute, false);
        for (int i = 0; i < 2; i++)
            start(wait_long, true);
    } else if (strcmp(in, "child") == 0) {
        crash_in_child(how);
    } else if (strcmp(in, "borrowers") == 0) {
        crash_in_borrowers();
    } else if (strcmp(in, "closed") == 0) {
        close(0), close(1), close(2);
    } else if (strcmp(in, "descriptors") == 0) {
        limit(RLIMIT_NOFILE, 64);
        while (dup(2) >= 0)
            ;
    } else if (strcmp(in, "memory") == 0) {
        limit(RLIMIT_AS, 192UL << 20); // the core starts, an interpreter hardly
    } else if (strcmp(in, "files") == 0) {
        limit(RLIMIT_FSIZE, 5000); // a part of the report
    } else if (strcmp(in, "alarm") == 0) {
        struct itimerval often = {{.tv_usec = 1000}, {.tv_usec = 1000}};
        sigset_t all;
        sigfillset(&all);
        need(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
        need(setitimer(ITIMER_REAL, &often, NULL) == 0);
        signal(SIGCHLD, SIG_IGN);
        usleep(5000);
    } else if (strcmp(in, "missing") == 0) {
        crash_on_missing_stack();
    } else if (strcmp(in, "root") == 0) {
        need(chdir("/") == 0 && (chroot("/proc/self") == 0 || errno == EPERM));
    }
}

int main(int argc, char **argv)
{
    need(argc > 1);
    printf("before\n");
    fflush(stdout);
    if (argc > 2)
        prepare(argv[1], argv[2]);
    do_crash(argv[1]);
}
