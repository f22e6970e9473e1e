// Does what no kernel survives. Argument: what.
#include "../guests/guest.h"

#include "../../core/abi/frame.h"

// The last page of the AeroKernel's memory, which nothing uses, and a place without memory.
#define AK_MEMORY (16UL << 20)
#define EMPTY_PAGE ((80UL << 20) - PAGE)
#define NOWHERE 0UL

#define CR4_SMEP (1UL << 20)
#define EFER_SCE (1U << 0)
#define EFER_NXE (1U << 11)

// Make the empty page a root whose entries all lead to where no memory is.
static void fill_root(void)
{
    uint64_t *root = (uint64_t *)(AK_MEMORY_VIEW + EMPTY_PAGE - AK_MEMORY);
    for (unsigned i = 0; i < PAGE / sizeof(*root); i++)
        root[i] = NOWHERE | 7;
}

static void clear_efer(uint32_t bits)
{
    uint32_t low, high, efer = 0xc0000080;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(efer));
    __asm__ volatile("wrmsr" : : "a"(low & ~bits), "d"(high), "c"(efer) : "memory");
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
    else if (strcmp(what, "page tables where no memory is") == 0)
        __asm__ volatile("mov %0, %%cr3" : : "r"(NOWHERE) : "memory");
    else if (strcmp(what, "page tables that lead nowhere") == 0) {
        fill_root();
        __asm__ volatile("mov %0, %%cr3" : : "r"(EMPTY_PAGE) : "memory");
    } else if (strcmp(what, "no page of a user's can be executed") == 0) {
        uint64_t cr4;
        __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
        __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_SMEP) : "memory");
    } else if (strcmp(what, "no page may forbid execution") == 0)
        clear_efer(EFER_NXE);
    else if (strcmp(what, "no SYSCALL") == 0) {
        clear_efer(EFER_SCE);
        getppid();
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
