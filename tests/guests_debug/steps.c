// Instructions that are not executed as others are: stepped through one by one.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
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

int main(void)
{
    signal(SIGTRAP, on_trap);
    calls();
    moves();
    traps_itself();
    printf("%d %d %d\n", id == getpid(), strcmp(from, to), traps);
    return 0;
}
