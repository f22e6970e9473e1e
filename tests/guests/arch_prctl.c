// Proves arch_prctl's GET and SET of FS and GS, segment-relative accesses, and, where the kernel
// offers them (HWCAP2), the instructions that read and write the bases.
#include "guest.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

static uint64_t area[4] = {11, 22, 33, 44};
static volatile sig_atomic_t hits;

static uint64_t gs_read(uint64_t offset)
{
    uint64_t value;
    __asm__ volatile("mov %%gs:(%1), %0" : "=r"(value) : "r"(offset) : "memory");
    return value;
}

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    hits += gs_read(0) == area[0];
}

static void *thread_base(void *arg)
{
    uint64_t base = 1;
    NEED(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
    say("gs in a new thread", "%s", base == (uint64_t)area ? "inherited" : base ? "other" : "0");
    NEED(syscall(SYS_arch_prctl, ARCH_SET_GS, arg) == 0);
    for (int i = 0; i < 100; i++) {
        NEED(gs_read(0) == 33);
        sched_yield();
    }
    return NULL;
}

int main(void)
{
    uint64_t fs, gs = 1;
    NEED(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0);
    say("fs is the thread pointer", "%s", yes(fs == (uint64_t)pthread_self()));
    NEED(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0);
    say("gs at start", "%lx", gs);
    NEED(syscall(SYS_arch_prctl, ARCH_SET_GS, area) == 0);
    say("through gs", "%lu %lu", gs_read(0), gs_read(8));
    handle(SIGUSR1, handler, 0);
    kill(getpid(), SIGUSR1);
    say("in a handler", "%d", hits);

    pthread_t thread;
    NEED(pthread_create(&thread, NULL, thread_base, &area[2]) == 0);
    pthread_join(thread, NULL);
    say("gs kept", "%lu", gs_read(0));
    pid_t child = fork();
    if (child == 0)
        _exit((int)gs_read(16));
    wait_and_say("gs in a child", child);

    // FS away and back, without any use of libc in between.
    uint64_t through_fs, result;
    __asm__ volatile("mov $158, %%eax; mov $0x1002, %%edi; mov %[area], %%rsi; syscall;"
                     "mov %%fs:8, %[value]; mov $158, %%eax; mov %[fs], %%rsi; syscall"
                     : "=&a"(result), [value] "=&b"(through_fs)
                     : [area] "r"(area), [fs] "r"(fs)
                     : "rcx", "r11", "rdi", "rsi", "memory");
    say("through fs", "%lu result %lu", through_fs, result);
    say("kernel address", "%s", outcome(syscall(SYS_arch_prctl, ARCH_SET_GS, 1UL << 63)));
    say("unknown code", "%s", outcome(syscall(SYS_arch_prctl, 0x7777, 0)));
    say("bad pointer", "%s", outcome(syscall(SYS_arch_prctl, ARCH_GET_FS, 8)));
    if (getauxval(AT_HWCAP2) & 2) {
        __asm__ volatile("rdgsbase %0" : "=r"(gs));
        say("rdgsbase", "%s", yes(gs == (uint64_t)area));
        __asm__ volatile("wrgsbase %0" : : "r"(area + 3));
        say("wrgsbase", "%lu", gs_read(0));
        NEED(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0);
        say("seen by arch_prctl", "%s", yes(gs == (uint64_t)(area + 3)));
        kill(getpid(), SIGUSR1); // a signal in between does not bring the old one back
        say("after a signal", "%lu", gs_read(0));
        __asm__ volatile("rdfsbase %0" : "=r"(gs));
        say("rdfsbase", "%s", yes(gs == fs));
    }
    return 0;
}
