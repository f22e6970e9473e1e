#include <aerokernel/override.h>

static int64_t calls;

static int64_t hot_pass(void)
{
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    return AK_FALLBACK;
}
