// Asks for its user a thousand times where the call's site cannot be rewritten: the instruction
// behind it is too short for a jump.
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    long user = getuid(), wrong = 0;
    for (int i = 0; i < 1000; i++) {
        long result;
        __asm__ volatile("syscall; nop"
                         : "=a"(result)
                         : "0"((long)SYS_getuid)
                         : "rcx", "r11", "memory");
        wrong += result != user;
    }
    puts(wrong ? "wrong" : "right");
    return wrong != 0;
}
