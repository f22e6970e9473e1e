// Signals that a debugger sees first: sent, raised by an instruction, and with no handler.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

volatile int caught;
static char *page;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    caught = sig;
    if (sig == SIGSEGV)
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

__attribute__((noinline)) void step_here(void)
{
    __asm__ volatile("nop");
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    (void)argv;
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    raise(SIGUSR1);
    printf("usr1 %d\n", caught);
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[5] = 1;
    printf("segv %d\n", caught);
    step_here();
    struct timespec begin, end, time = {.tv_nsec = 300000000};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int slept = nanosleep(&time, NULL), polled = poll(NULL, 0, 200);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long ms = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
    printf("slept %d polled %d, %s\n", slept, polled, ms >= 500 ? "long enough" : "too short");
    fflush(stdout);
    if (argc > 1)
        pause();
    raise(SIGTERM);
    return 0;
}
