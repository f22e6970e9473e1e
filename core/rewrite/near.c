#include "rewrite/near.h"

#include <linux/mman.h>

#include "base/sys.h"

#define POOL_MAX MIB(1)
#define REACH (GIB(2) - 2 * POOL_MAX)

bool rw_reaches(uint64_t pool, uint64_t at)
{
    int64_t distance = (int64_t)(pool - at);
    return distance < (int64_t)REACH && distance > -(int64_t)REACH;
}

uint64_t rw_map_near(uint64_t at, uint64_t size)
{
    enum { TRIES = 24 };
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t hint = i < 2 ? 0 : ALIGN_DOWN(at, POOL_MAX) - i * MIB(64);
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | (i == 1 ? MAP_32BIT : 0) |
                    (hint ? MAP_FIXED_NOREPLACE : 0);
        if (i >= 2 && hint > at)
            break;
        uint64_t pool = sys_mmap(hint, size, PROT_READ | PROT_EXEC, flags, -1, 0);
        if (sys_failed(pool))
            continue;
        if (rw_reaches(pool, at))
            return pool;
        sys2(__NR_munmap, pool, size);
    }
    return 0;
}

int rw_protect(uint64_t start, uint64_t size, int prot)
{
    uint64_t from = ALIGN_DOWN(start, PAGE_SIZE);
    return (int)sys3(__NR_mprotect, from, ALIGN_UP(start + size, PAGE_SIZE) - from, prot);
}
