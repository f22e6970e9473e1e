// The cost of asking who one is: getpid, as programs call it.
//
// Batches are made until the measuring took long enough for the clock, whatever a call costs.
#include "micro.h"

#include <unistd.h>

static const double ENOUGH_NS = 100e6;
enum { BATCH = 100 };

int main(void)
{
    pid_t self = getpid();
    long calls = 0;
    double elapsed;

    double start = now_ns();
    do {
        for (int i = 0; i < BATCH; i++) {
            if (getpid() != self) {
                fputs("getpid: another answer\n", stderr);
                return 1;
            }
        }
        calls += BATCH;
        elapsed = now_ns() - start;
    } while (elapsed < ENOUGH_NS);
    printf("getpid_ns %.3f\n", elapsed / (double)calls);
    return 0;
}
