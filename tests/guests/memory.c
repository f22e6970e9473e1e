// Memory: code that is written and run, sparse mappings, sharing with a forked child, remapping,
// the heap, the stack to its limit.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int run(void *code)
{
    return ((int (*)(void))code)();
}

static void put_code(unsigned char *at, int value)
{
    at[0] = 0xb8; // mov $value, %eax; ret
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static void overflow(int sig, siginfo_t *info, void *context)
{
    char text[64];
    (void)context;
    int n = snprintf(text, sizeof(text), "stack overflow: signal %d code %d\n", sig, info->si_code);
    _exit(write(1, text, (size_t)n) != n);
}

static long recurse(long depth)
{
    volatile char page[4096];
    page[0] = (char)depth;
    return (depth < 1L << 40 ? recurse(depth + 1) : 0) + page[0];
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    const size_t page = 4096, gib = 1UL << 30;
    unsigned char *code =
        mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long sum = 0;
    for (int i = 0; i < 50; i++) {
        mprotect(code, page, PROT_READ | PROT_WRITE);
        put_code(code, i);
        mprotect(code, page, PROT_READ | PROT_EXEC);
        sum += run(code);
    }
    printf("written, then run: %ld\n", sum);
    mprotect(code, page, PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int i = 0; i < 1000; i++) {
        put_code(code, i);
        sum += run(code);
    }
    printf("modified while running: %ld\n", sum);
    int fd = memfd_create("code", 0);
    if (ftruncate(fd, (off_t)page))
        return 1;
    unsigned char *writable = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *runnable = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    put_code(writable, 7);
    printf("two views: %d", run(runnable));
    put_code(writable, 8);
    printf(" %d\n", run(runnable));

    char *sparse = mmap(NULL, 4 * gib, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t at = 0; at < 4 * gib; at += gib / 8 + page)
        sparse[at] = (char)(at >> 20);
    sum = 0;
    for (size_t at = 0; at < 4 * gib; at += gib / 8 + page)
        sum += sparse[at];
    printf("sparse: %ld\n", sum);
    char *huge = mmap(NULL, 64 * gib, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    huge[0] = huge[33 * gib] = huge[64 * gib - 1] = 1;
    printf("reservation: %d\n", huge[33 * gib] + huge[1]);
    madvise(sparse, page, MADV_DONTNEED);
    sparse[page] = 9;
    char *moved = mremap(sparse + page, page, 3 * page, MREMAP_MAYMOVE);
    printf("madvise, mremap: %d %d\n", sparse[0], moved[0]);

    volatile int *shared =
        mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *private = malloc(1);
    *private = 1;
    pid_t child = fork();
    if (child == 0) {
        while (shared[0] != 1)
            usleep(100);
        *private = 2;
        shared[1] = 2;
        _exit(0);
    }
    shared[0] = 1;
    waitpid(child, NULL, 0);
    printf("shared: %d private: %d\n", shared[1], *private);
    char *heap = sbrk(1 << 20);
    memset(heap, 1, 1 << 20);
    printf("heap: %d %d\n", sbrk(0) == heap + (1 << 20), sbrk(-(1 << 20)) == heap + (1 << 20));

    static char stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&alt, NULL);
    child = fork();
    if (child == 0)
        return (int)recurse(0);
    int status;
    waitpid(child, &status, 0);
    printf("overflow without handler: signal %d\n", WTERMSIG(status));
    sigaction(SIGSEGV, &action, NULL);
    return (int)recurse(0);
}
