#include "threads.h"

#include <aerokernel/override.h>

int64_t threads_mask(int how, const void *set, void *old, size_t size)
{
    return ak_signal_mask(how, set, old, size);
}
