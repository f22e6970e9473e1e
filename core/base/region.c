#include "base/region.h"

#include <linux/mman.h>

#include "base/lock.h"
#include "base/sys.h"

struct mv_region mv_region;
static struct mv_lock region_lock;

void mv_region_lock(void)
{
    mv_lock(&region_lock);
}

void mv_region_unlock(void)
{
    mv_unlock(&region_lock);
}

uint64_t mv_region_reserve(uint64_t size, uint64_t align)
{
    mv_lock(&region_lock);
    uint64_t at = ALIGN_UP(mv_region.start + mv_region.used, align);
    bool fits = at + size <= mv_region.end;
    if (fits)
        mv_region.used = at + size - mv_region.start;
    mv_unlock(&region_lock);
    return fits ? at : 0;
}

int mv_region_commit(uint64_t address, uint64_t size)
{
    return (int)sys3(__NR_mprotect, address, size, PROT_READ | PROT_WRITE);
}

void *mv_region_alloc(uint64_t size)
{
    size = ALIGN_UP(size, PAGE_SIZE);
    uint64_t at = mv_region_reserve(size, PAGE_SIZE);
    return at && mv_region_commit(at, size) == 0 ? (void *)at : NULL;
}
