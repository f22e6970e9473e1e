// How much memory the AeroKernel gives until there is none, in MiB, by pages of the order that the
// argument says. Its own bookkeeping takes a little of it.
#include "check.h"

int main(int argc, char **argv)
{
    unsigned order = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    uint64_t pages = 0;
    attach();
    while (ak_pages_alloc(order))
        pages += 1 << order;
    printf("%lu MiB\n", (unsigned long)(pages * 4096 >> 20));
    return 0;
}
