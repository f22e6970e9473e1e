#include "base/region.h"
#include "ros/ros.h"

#include <asm/errno.h>

static bool is_program_memory(uint64_t address, uint64_t size)
{
    return range_is_lower_half(address, size) && !mv_region_touches(address, size);
}

int ros_copy_in(void *dst, uint64_t src, uint64_t size)
{
    return is_program_memory(src, size) ? ros_copy_asm(dst, (const void *)src, size) : -EFAULT;
}

int ros_copy_out(uint64_t dst, const void *src, uint64_t size)
{
    return is_program_memory(dst, size) ? ros_copy_asm((void *)dst, src, size) : -EFAULT;
}

int64_t ros_copy_string(char *dst, uint64_t src, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        // Never past a page in which the string may end before the mapping does.
        uint64_t chunk = MIN(size - done, PAGE_SIZE - (src + done) % PAGE_SIZE);
        if (ros_copy_in(dst + done, src + done, chunk))
            return -EFAULT;
        for (uint64_t i = 0; i < chunk; i++)
            if (!dst[done + i])
                return (int64_t)(done + i);
        done += chunk;
    }
    return -ENAMETOOLONG;
}
