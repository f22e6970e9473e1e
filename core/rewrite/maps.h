// What /proc/self/maps says about an address.
#ifndef MV_REWRITE_MAPS_H
#define MV_REWRITE_MAPS_H

#include "base/types.h"

struct rw_mapping {
    uint64_t start, end;
    bool readable, writable, executable, shared;
};

// Find the mapping that holds the address. Returns 0, -EFAULT if there is none, or the error of
// opening or reading the file (there may be no /proc).
int rw_find_mapping(uint64_t address, struct rw_mapping *ret);

#endif
