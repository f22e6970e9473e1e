// Proves that the 32-bit system call instruction behaves as natively in a 64-bit program.
#include "guest.h"

int main(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    say("getpid by int $0x80", "%s", result == getpid() ? "right" : error_name((int)-result));
    return 0;
}
