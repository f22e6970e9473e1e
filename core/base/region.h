// The core's own part of the process's address space: image, stacks, tables, run areas. It is one
// range, reserved at start, never merged into the HRT and closed to the program's mapping calls.
#ifndef MV_BASE_REGION_H
#define MV_BASE_REGION_H

#include "base/types.h"

struct mv_region {
    uint64_t start, end; // 2 MiB aligned
    uint64_t used;       // bytes from start that are taken, by the image first
};

extern struct mv_region mv_region;

// Take `size` bytes of address space, page aligned to `align`, not yet accessible.
// Returns 0 when the region is used up. Takings are never given back.
uint64_t mv_region_reserve(uint64_t size, uint64_t align);

// Make pages of the region readable and writable. Returns 0 or a negative errno.
int mv_region_commit(uint64_t address, uint64_t size);

// mv_region_reserve() and mv_region_commit(), page aligned, zeroed; NULL without memory.
void *mv_region_alloc(uint64_t size);

// Held across fork, so that the child finds nothing half changed.
void mv_region_lock(void);
void mv_region_unlock(void);

// True if [address, address+size) touches the region.
static inline bool mv_region_touches(uint64_t address, uint64_t size)
{
    return address < mv_region.end && (size > mv_region.end || address + size > mv_region.start);
}

#endif
