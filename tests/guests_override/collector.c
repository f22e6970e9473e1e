// A write barrier as a collector uses it: all is protected at once, page by page allowed again
// where something is stored. Prints how many stores it has seen, and to stderr, if asked, how long
// that took.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 512, ROUNDS = 100, STORES = 64 };

static char *heap;
static volatile unsigned long seen;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    seen++;
    mprotect((void *)((unsigned long)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct timespec begin, end;
    (void)argv;
    sigaction(SIGSEGV, &action, NULL);
    heap = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES; i++)
        heap[i * PAGE] = 1;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int round = 0; round < ROUNDS; round++) {
        mprotect(heap, PAGES * PAGE, PROT_READ);
        for (int i = 0; i < STORES; i++)
            *(volatile char *)(heap + (i * 7 + round) % PAGES * PAGE) = 2;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%lu\n", seen);
    if (argc > 1)
        fprintf(stderr, "%ld us\n",
                (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000);
    return seen != ROUNDS * STORES;
}
