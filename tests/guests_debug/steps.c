// Instructions that are not executed as others are: stepped through one by one.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int traps;
volatile long id;
char from[64] = "sixty-three bytes and more to be moved by one instruction only", to[64];

static void on_trap(int sig)
{
    traps += sig == SIGTRAP;
}

__attribute__((noinline)) void calls(void)
{
    __asm__ volatile("call_begin: mov $39, %%eax\n"
                     "syscall\n"
                     "call_end: mov %%rax, %0\n"
                     : "=m"(id)
                     :
                     : "rax", "rcx", "r11", "memory");
}

__attribute__((noinline)) void moves(void)
{
    void *source = from, *target = to;
    long count = sizeof(from);
    __asm__ volatile("cld\n"
                     "move_begin: rep movsb\n"
                     "move_end: nop\n"
                     : "+S"(source), "+D"(target), "+c"(count)
                     :
                     : "memory");
}

__attribute__((noinline)) void traps_itself(void)
{
    __asm__ volatile("int3\nafter_trap: nop\n");
}

// True if the child of a fork that is stepped over is not stepped itself.
__attribute__((noinline)) int forks(void)
{
    long child;
    int status = -1;
    __asm__ volatile("fork_begin: mov $57, %%eax\n"
                     "syscall\n"
                     "fork_end: mov %%rax, %0\n"
                     : "=m"(child)
                     :
                     : "rax", "rcx", "r11", "memory");
    if (child == 0)
        _exit(traps != 0);
    return waitpid((pid_t)child, &status, 0) == child && status == 0;
}

int main(void)
{
    signal(SIGTRAP, on_trap);
    calls();
    int untouched = forks();
    moves();
    traps_itself();
    printf("%d %d %d %d\n", id == getpid(), untouched, strcmp(from, to), traps);
    return 0;
}
