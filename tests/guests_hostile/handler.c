// Has the AeroKernel call a handler for a store's fault. With an argument the handler ends the
// virtual machine, else the store is done.
#include <aerokernel.h>

#include "wild.h"

static char page[PAGE] __attribute__((aligned(4096)));

// At ring 0 by an exit that tells of an exception that was none.
KEEP static void go_wild(void)
{
    unsigned cs;
    __asm__ volatile("mov %%cs, %0" : "=r"(cs));
    if (!(cs & 3))
        __asm__ volatile("jmp *%0" : : "r"(AK_VECTOR_PAGE));
    load_wild_frame((uint64_t)__builtin_frame_address(0));
}

KEEP static bool in_handler(const struct ak_fault *fault, void *wild)
{
    if (wild)
        go_wild();
    need(fault->address == (uint64_t)page);
    return ak_page_protect(page, sizeof(page), AK_PAGE_WRITE) == 0;
}

KEEP static void store(char value)
{
    *(volatile char *)page = value;
    write(STDOUT_FILENO, "stored\n", 7);
}

int main(int argc, char **argv)
{
    need(ak_attach() == 0);
    need(ak_page_prepare(page, sizeof(page)) == 0);
    need(ak_fault_handle(page, sizeof(page), in_handler, argc > 1 ? argv[1] : NULL) == 0);
    need(ak_page_protect(page, sizeof(page), AK_PAGE_READ) == 0);
    store(1);
    return page[0] - 1;
}
