// The first touch of fresh anonymous memory: one byte is written to every 4 KiB of a new mapping.
//
// usage: first-touch small|huge
// "small" forbids transparent huge pages for the mapping, "huge" asks for them; where the kernel
// has none to give, "huge" measures small pages too.
#define _DEFAULT_SOURCE
#include "micro.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, HUGE = 2 << 20, BYTES = 64 << 20 };

int main(int argc, char **argv)
{
    if (argc != 2 || (strcmp(argv[1], "small") && strcmp(argv[1], "huge"))) {
        fputs("usage: first-touch small|huge\n", stderr);
        return 2;
    }
    int advice = strcmp(argv[1], "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;

    // One huge page more than needed, so that the measured part can begin at a huge-page boundary.
    char *mapping =
        mmap(NULL, BYTES + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    // A kernel built without transparent huge pages refuses the advice; then all pages are small,
    // which is what it says.
    (void)madvise(mapping, BYTES + HUGE, advice);

    volatile char *aligned = mapping + (HUGE - (uintptr_t)mapping % HUGE) % HUGE;
    double start = now_ns();
    for (long i = 0; i < BYTES; i += PAGE)
        aligned[i] = 1;
    double elapsed = now_ns() - start;
    printf("first_touch_page_ns %.3f\n", elapsed / (BYTES / PAGE));
    return 0;
}
