// A compute loop that makes no system call and touches no memory: how fast does the program's own
// code run?
//
// Each step depends on the one before, so the processor cannot overlap them, and mixes integer with
// floating-point work. The result goes to stderr so that the compiler has to compute it, and so
// that native and HRT can be compared.
#include "micro.h"

#include <stdint.h>

enum { STEPS = 100000000 };

int main(void)
{
    uint64_t x = 88172645463325252u;
    double y = 1.0;

    double start = now_ns();
    for (long i = 0; i < STEPS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        y = y * 0.5 + (double)(x & 0xff);
    }
    double elapsed = now_ns() - start;
    fprintf(stderr, "%016llx %.17g\n", (unsigned long long)x, y);
    printf("compute_ns %.0f\n", elapsed);
    return 0;
}
