#include "linked.h"

#include <aerokernel/override.h>

int64_t linked_number(void)
{
    return 1234567;
}

// Every other time the legacy function's.
int64_t linked_pid(void)
{
    static int turns;
    return turns++ % 2 ? AK_FALLBACK : 7654321;
}

long linked_fresh(long value)
{
    return labs(value) + 1;
}
