// Is hit by a signal in a function that holds signals, and that meets a fault afterwards: the
// handler has run when the function returns.
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 100 };
#define FAR (1UL << 30) // each has page tables of its own

static volatile sig_atomic_t handled;

__attribute__((noinline)) long signalled(long process, long signal, char *where)
{
    __asm__ volatile("" : "+r"(process), "+r"(signal), "+r"(where)); // a body with room for a jump
    return process + signal + *where;
}

static void on_signal(int signal)
{
    (void)signal;
    handled++;
}

int main(void)
{
    int late = 0, own = getpid();
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *fresh = mmap(NULL, ROUNDS * FAR, PROT_READ | PROT_WRITE, flags, -1, 0);
    signal(SIGUSR1, on_signal);
    for (int i = 0; i < ROUNDS; i++) {
        if (signalled(own, SIGUSR1, fresh + i * FAR) != 0)
            return 1;
        late += handled != i + 1;
    }
    printf("late %d\n", late);
    return 0;
}
