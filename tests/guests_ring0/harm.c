// Does what no kernel survives. Argument: what.
#include "../guests/guest.h"

#include <sys/time.h>

#include "../../core/abi/frame.h"

// The last page of the AeroKernel's memory, which nothing uses, and a place without memory.
#define EMPTY_PAGE (80UL * 1024 * 1024 - PAGE)
#define NOWHERE 0UL

static void ignore(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
}

static void set_timer(void)
{
    struct itimerval often = {{.tv_usec = 100000}, {.tv_usec = 100000}};
    handle(SIGALRM, ignore, 0);
    NEED(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

__attribute__((noinline)) static void do_harm(const char *what)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } none = {0, 0};
    if (strcmp(what, "no interrupt table") == 0)
        __asm__ volatile("lidt %0; ud2" : : "m"(none));
    else if (strcmp(what, "no stack tables") == 0)
        __asm__ volatile("lgdt %0; mov %1, %%ss; ud2" : : "m"(none), "r"(0x10));
    else if (strcmp(what, "an exception that was none") == 0)
        __asm__ volatile("jmp *%0" : : "r"(AK_VECTOR_PAGE));
    else if (strcmp(what, "a jump between two vectors") == 0)
        __asm__ volatile("jmp *%0" : : "r"(AK_VECTOR_PAGE + 2));
    else if (strcmp(what, "no page tables") == 0)
        __asm__ volatile("mov %0, %%cr3" : : "r"(EMPTY_PAGE) : "memory");
    else if (strcmp(what, "page tables where no memory is") == 0) {
        set_timer(); // its signals are what gets the virtual CPU back
        __asm__ volatile("mov %0, %%cr3" : : "r"(NOWHERE) : "memory");
    } else if (strcmp(what, "a jump to no address") == 0)
        __asm__ volatile("jmp *%0" : : "r"(1UL << 47));
}

int main(int argc, char **argv)
{
    printf("before\n");
    fflush(stdout);
    do_harm(argc > 1 ? argv[1] : "");
    printf("after\n");
    return 0;
}
