// What a module's answers look like to the program.
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static sigjmp_buf back;
static void *faulted;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    faulted = info->si_addr;
    siglongjmp(back, 1);
}

// The legacy functions: what they would do shows that nobody has taken them over.
__attribute__((noinline)) long deep(long depth)
{
    __asm__ volatile(".nops 8"); // room for a jump
    return -depth;
}

__attribute__((noinline)) void poke(char *where)
{
    __asm__ volatile(".nops 8"); // room for a jump
    *where = 2;
}

__attribute__((noinline)) long doubled(long value)
{
    __asm__ volatile(".nops 8"); // room for a jump
    return value + 1;
}

static void try_poke(char *where)
{
    faulted = NULL;
    if (!sigsetjmp(back, 1))
        poke(where);
    printf("poke %s\n", faulted == where && where ? "faults there" : faulted ? "faults" : "done");
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct timeval time = {0};
    sigaction(SIGSEGV, &action, NULL);
    printf("parent %d\n", syscall(SYS_getppid) == syscall(SYS_getpgid, 0) * 0 + getppid());
    printf("parent is another %d\n", getppid() > 1000000);
    printf("fallback %d\n", syscall(SYS_getsid, 0) == getsid(0) && getsid(0) > 0);
    long result = syscall(SYS_gettimeofday, &time, NULL);
    printf("time %ld %ld %ld\n", result, (long)time.tv_sec, (long)time.tv_usec);
    struct timezone zone;
    syscall(SYS_gettimeofday, &time, &zone);
    printf("condition %d\n", time.tv_sec > 1000000000);
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *bad[] = {(void *)8, page, (void *)-4096L, (void *)0x7ffffffff000};
    for (int i = 0; i < 4; i++) {
        result = syscall(SYS_gettimeofday, bad[i], NULL);
        printf("bad %ld %d\n", result, result ? errno == EFAULT : 0);
    }
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    result = syscall(SYS_gettimeofday, page + 4096 - 8, NULL);
    printf("crossing %ld %d %ld\n", result, errno == EFAULT, *(long *)(page + 4088));
    munmap(page + 4096, 4096);
    result = syscall(SYS_sync);
    printf("errno %ld %d\n", result, errno == ENOSPC);
    printf("deep %ld\n", deep(1500));
    try_poke(page);
    printf("poked %d\n", *page);
    mprotect(page, 4096, PROT_READ);
    try_poke(page);
    try_poke((char *)16);
    munmap(page, 4096);
    try_poke(page);
    printf("doubled %ld %ld %ld\n", doubled(21), doubled(100), doubled(-5));
    return 0;
}
