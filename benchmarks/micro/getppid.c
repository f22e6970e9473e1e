// The cost of a system call that does next to nothing: getppid, which the C library never caches.
//
// A call costs from a fifth of a microsecond natively to a hundred where each call is a VM exit, so
// the number of calls is not
// fixed: batches are made until the measuring took long enough for the clock.
#include "micro.h"

#include <unistd.h>

static const double ENOUGH_NS = 100e6;
enum { BATCH = 100 };

int main(void)
{
    pid_t parent = getppid();
    long calls = 0;
    double elapsed;

    double start = now_ns();
    do {
        for (int i = 0; i < BATCH; i++) {
            if (getppid() != parent) {
                fputs("getppid: the parent has gone\n", stderr);
                return 1;
            }
        }
        calls += BATCH;
        elapsed = now_ns() - start;
    } while (elapsed < ENOUGH_NS);
    printf("getppid_ns %.3f\n", elapsed / (double)calls);
    return 0;
}
