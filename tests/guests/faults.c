// Faults of the program's own instructions: signal, code, address and trap number of each, with a
// handler that mends the context and goes on.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf again;
static char *base;

static void handler(int sig, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    const greg_t *g = uc->uc_mcontext.gregs;
    intptr_t offset = (char *)info->si_addr - base;
    // Addresses near the test area are told relative to it, others as they are.
    if (sig != SIGSEGV && (uintptr_t)info->si_addr == (uintptr_t)g[REG_RIP])
        printf(" sig %d code %d at rip", sig, info->si_code);
    else if (offset > -(1 << 20) && offset < 1 << 20)
        printf(" sig %d code %d at base%+ld", sig, info->si_code, (long)offset);
    else
        printf(" sig %d code %d at %p", sig, info->si_code, info->si_addr);
    printf(" trap %lld err %lld", g[REG_TRAPNO], g[REG_ERR]);
    siglongjmp(again, 1);
}

#define TRY(name, statement)                                                                       \
    do {                                                                                           \
        printf("%s:", name);                                                                       \
        if (!sigsetjmp(again, 1)) {                                                                \
            statement;                                                                             \
            printf(" went on");                                                                    \
        }                                                                                          \
        printf("\n");                                                                              \
    } while (0)

static void *opaque(void *p)
{
    __asm__ volatile("" : "+r"(p));
    return p;
}

#define READ(p) (void)*(volatile int *)opaque(p)
#define WRITE(p) (*(volatile int *)opaque(p) = 1)
#define CALL(p) ((void (*)(void))opaque(p))()

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    const size_t page = 4096;
    base = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(base, 0xc3, 16 * page); // RET
    munmap(base + 2 * page, page);
    mprotect(base + 4 * page, page, PROT_NONE);
    mprotect(base + 6 * page, page, PROT_READ);
    mprotect(base + 8 * page, page, PROT_READ | PROT_EXEC);

    TRY("read unmapped", READ(base + 2 * page + 123));
    TRY("write unmapped", WRITE(base + 2 * page + 456));
    TRY("run unmapped", CALL(base + 2 * page + 78));
    TRY("read none", READ(base + 4 * page + 1));
    TRY("write none", WRITE(base + 4 * page + 4000));
    TRY("run none", CALL(base + 4 * page + 16));
    TRY("read read-only", READ(base + 6 * page + 8));
    TRY("write read-only", WRITE(base + 6 * page + 8));
    TRY("run read-only", CALL(base + 6 * page + 8));
    TRY("run writable", CALL(base + 32));
    TRY("run executable", CALL(base + 8 * page + 32));
    TRY("write executable", WRITE(base + 8 * page + 32));
    mprotect(base + 8 * page, page, PROT_READ | PROT_WRITE);
    TRY("run no longer executable", CALL(base + 8 * page + 32));
    TRY("across a boundary", READ(base + 4 * page - 2));
    TRY("null", READ(NULL));
    TRY("null call", CALL(NULL));
    TRY("low", WRITE((void *)0x1230));
    TRY("kernel high", READ((void *)0xffffffffffffe000));
    TRY("not canonical", READ((void *)0x8000000000000000));
    volatile int zero = 0, minimum = (int)0x80000000, minus = -1, sink;
    TRY("divide by zero", sink = minimum / zero);
    TRY("divide overflow", sink = minimum / minus);
    (void)sink;
    TRY("ud2", __asm__ volatile("ud2"));
    TRY("int3", __asm__ volatile("int3"));
    int fd = memfd_create("short", 0);
    char *file = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
    base = file;
    TRY("past the end of a file", READ(file + page + 5));
    return 0;
}
