// Registers, flags, vector and floating-point state across system calls, signals and threads; the
// red zone; the TLS base.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

typedef double vector __attribute__((vector_size(32)));
static volatile sig_atomic_t ticks;

__attribute__((target("avx"))) static void tick(int sig)
{
    (void)sig;
    vector junk = {-1, -2, -3, -4};
    __asm__ volatile("vmovapd %0, %%ymm15\n vmovapd %0, %%ymm0" : : "x"(junk) : "xmm0", "xmm15");
    ticks++;
}

// Sum with values held in registers all the while; returns how many iterations were wrong.
__attribute__((target("avx"))) static long spin(int until)
{
    long wrong = 0;
    vector a = {1, 2, 3, 4}, b = a;
    while (ticks < until) {
        __asm__ volatile("" : "+x"(a), "+x"(b));
        for (int i = 0; i < 4; i++)
            wrong += a[i] != b[i];
        a += 1, b += 1;
    }
    return wrong;
}

static void *thread(void *arg)
{
    (void)arg;
    return (void *)spin(30);
}

int main(void)
{
    uint64_t before[14], after[14], flags_before, flags_after, red = 0;
    for (int i = 0; i < 14; i++)
        before[i] = 0x1111111111111111ULL * (unsigned)(i + 1);
    __asm__ volatile("movq %[seed], -120(%%rsp)\n"
                     "mov 0(%[in]), %%r8\n mov 8(%[in]), %%r9\n mov 16(%[in]), %%r10\n"
                     "mov 24(%[in]), %%r12\n mov 32(%[in]), %%r13\n mov 40(%[in]), %%r14\n"
                     "mov 48(%[in]), %%r15\n mov 56(%[in]), %%rdx\n"
                     "mov $39, %%eax\n"
                     "syscall\n"
                     "mov %%r8, 0(%[out])\n mov %%r9, 8(%[out])\n mov %%r10, 16(%[out])\n"
                     "mov %%r12, 24(%[out])\n mov %%r13, 32(%[out])\n mov %%r14, 40(%[out])\n"
                     "mov %%r15, 48(%[out])\n mov %%rdx, 56(%[out])\n"
                     "movq -120(%%rsp), %[red]\n"
                     : [red] "=&r"(red)
                     : [in] "D"(before), [out] "S"(after), [seed] "b"(0xfeedULL)
                     : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "memory");
    printf("registers kept: %d\n", memcmp(before, after, 64) == 0);
    printf("red zone kept: %llx\n", (unsigned long long)red);
    __asm__ volatile("lea -128(%%rsp), %%rsp\n stc\n std\n pushfq\n pop %0\n mov $39, %%eax\n"
                     "syscall\n pushfq\n pop %1\n cld\n lea 128(%%rsp), %%rsp"
                     : "=&r"(flags_before), "=&r"(flags_after)
                     :
                     : "rax", "rcx", "r11", "cc", "memory");
    printf("flags kept: %d (%llx)\n", flags_before == flags_after,
           (unsigned long long)flags_before & 0x401);
    uint64_t fs = 0, gs = 1;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0x12345000UL);
    syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
    printf("bases: %d %llx\n", fs == (uint64_t)pthread_self(), (unsigned long long)gs);

    if (__builtin_cpu_supports("avx")) {
        struct itimerval timer = {.it_interval.tv_usec = 3000, .it_value.tv_usec = 3000};
        signal(SIGALRM, tick);
        fesetround(FE_UPWARD);
        setitimer(ITIMER_REAL, &timer, NULL);
        pthread_t other;
        void *result;
        pthread_create(&other, NULL, thread, NULL);
        long wrong = spin(30);
        pthread_join(other, &result);
        printf("vectors wrong: %ld %ld, rounding %d\n", wrong, (long)result,
               fegetround() == FE_UPWARD);
    }
    return 0;
}
