// Proves that x87, SSE, AVX and AVX-512 state belongs to each thread and survives system calls and
// signals, that handlers start with clean state, and that new threads inherit the control words.
#include "guest.h"

#include <cpuid.h>
#include <pthread.h>

static volatile sig_atomic_t hits;
static int vector_bytes = 16;

struct vectors {
    _Alignas(64) unsigned char bytes[16][64];
};

#define CLOBBERS                                                                                   \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "rax", "rcx", "r11", "memory", "cc"
#define EACH(op, ins, reg)                                                                         \
    op(0, ins, reg) op(1, ins, reg) op(2, ins, reg) op(3, ins, reg) op(4, ins, reg)                \
        op(5, ins, reg) op(6, ins, reg) op(7, ins, reg) op(8, ins, reg) op(9, ins, reg)            \
            op(10, ins, reg) op(11, ins, reg) op(12, ins, reg) op(13, ins, reg) op(14, ins, reg)   \
                op(15, ins, reg)
#define LOAD(n, ins, reg) ins " " #n "*64(%[v]), %%" reg #n ";"
#define STORE(n, ins, reg) ins " %%" reg #n ", " #n "*64(%[v]);"

// Load all registers, compute for a while, make a system call (sched_yield), store them again.
#define ROUND(ins, reg)                                                                            \
    __asm__ volatile(EACH(LOAD, ins, reg) "mov $20000, %%rcx; 1: dec %%rcx; jnz 1b;"               \
                                          "mov $24, %%eax; syscall;" EACH(STORE, ins, reg)         \
                     :                                                                             \
                     : [v] "r"(vectors)                                                            \
                     : CLOBBERS)

static void round_once(struct vectors *vectors)
{
    if (vector_bytes == 64)
        ROUND("vmovdqu64", "zmm");
    else if (vector_bytes == 32)
        ROUND("vmovdqu", "ymm");
    else
        ROUND("movdqu", "xmm");
}

static void clobber(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    struct vectors junk;
    memset(&junk, 0xee, sizeof(junk));
    round_once(&junk);
    hits++;
}

static void first_state(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    unsigned mxcsr;
    uint16_t control;
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(control));
    say("in the handler", "mxcsr %x control %x", mxcsr, control);
}

static void *worker(void *arg)
{
    struct vectors vectors, copy;
    memset(&vectors, (int)(long)arg, sizeof(vectors));
    for (unsigned i = 0; i < 16; i++)
        vectors.bytes[i][i] = (unsigned char)i;
    copy = vectors;
    long wrong = 0;
    for (int i = 0; i < 200; i++) {
        round_once(&vectors);
        for (unsigned r = 0; r < 16; r++)
            wrong += memcmp(vectors.bytes[r], copy.bytes[r], vector_bytes) != 0;
    }
    return (void *)wrong;
}

static void *control_words(void *arg)
{
    (void)arg;
    unsigned mxcsr;
    uint16_t control;
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(control));
    say("in a new thread", "mxcsr %x control %x", mxcsr & ~0x3f, control);
    return NULL;
}

int main(void)
{
    if (__builtin_cpu_supports("avx512f"))
        vector_bytes = 64;
    else if (__builtin_cpu_supports("avx2"))
        vector_bytes = 32;
    say("vector bytes", "%d", vector_bytes);
    unsigned a, b, c, d, low, high;
    NEED(__get_cpuid(1, &a, &b, &c, &d));
    if (c & bit_OSXSAVE) {
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        say("sse and avx enabled", "%s", yes((low & 6) == 6 || vector_bytes == 16));
    }

    // Four threads, each with its own values, all hit by a process-wide timer.
    handle(SIGALRM, clobber, SA_RESTART);
    ualarm(1000, 1000);
    pthread_t threads[4];
    long wrong = 0;
    for (long i = 0; i < 4; i++)
        NEED(pthread_create(&threads[i], NULL, worker, (void *)(i * 17 + 3)) == 0);
    wrong += (long)worker((void *)0x42);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (long)result;
    }
    while (!hits)
        continue;
    ualarm(0, 0);
    say("registers damaged", "%ld", wrong);

    unsigned mxcsr = 0x7f80; // round toward zero
    uint16_t control = 0xf7f;
    __asm__ volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(control));
    handle(SIGUSR1, first_state, 0);
    raise(SIGUSR1);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, control_words, NULL) == 0);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(control));
        say("in a child", "mxcsr %x control %x", mxcsr & ~0x3f, control);
        _exit(0);
    }
    wait_and_say("child", child);
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(control));
    say("at the end", "mxcsr %x control %x", mxcsr & ~0x3f, control);
    return 0;
}
