// Does what no kernel survives. Argument: what.
#include "../guests/guest.h"

#include "../../core/abi/frame.h"

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } none = {0, 0};
    printf("before\n");
    fflush(stdout);
    if (strcmp(what, "no interrupt table") == 0)
        __asm__ volatile("lidt %0; ud2" : : "m"(none));
    else if (strcmp(what, "no stack tables") == 0)
        __asm__ volatile("lgdt %0; mov %1, %%ss; ud2" : : "m"(none), "r"(0x10));
    else if (strcmp(what, "an exception that was none") == 0)
        __asm__ volatile("jmp *%0" : : "r"(AK_VECTOR_PAGE));
    printf("after\n");
    return 0;
}
