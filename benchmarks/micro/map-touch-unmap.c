// What short-lived memory costs: a mebibyte is mapped, a byte of each of its pages is seen to be
// zero and written to, and it is unmapped again.
//
// The first turns are not counted: memory that an override keeps is there after them. Turns are
// made until the measuring took long enough for the clock.
#define _DEFAULT_SOURCE
#include "micro.h"

#include <sys/mman.h>

static const double ENOUGH_NS = 100e6;
enum { PAGE = 4096, BYTES = 1 << 20, FIRST = 20 };

static void turn(void)
{
    volatile char *bytes =
        mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (bytes == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    for (long i = 0; i < BYTES; i += PAGE) {
        if (bytes[i]) {
            fputs("mmap: memory that is not zero\n", stderr);
            exit(1);
        }
        bytes[i] = 1;
    }
    if (munmap((void *)bytes, BYTES)) {
        perror("munmap");
        exit(1);
    }
}

int main(void)
{
    long turns = 0;
    double elapsed;

    for (int i = 0; i < FIRST; i++)
        turn();
    double start = now_ns();
    do {
        turn();
        turns++;
        elapsed = now_ns() - start;
    } while (elapsed < ENOUGH_NS);
    printf("map_touch_unmap_ns %.3f\n", elapsed / (double)turns);
    return 0;
}
