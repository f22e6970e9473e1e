// What /proc/self/maps says about an address.
#ifndef MV_REWRITE_MAPS_H
#define MV_REWRITE_MAPS_H

#include "base/types.h"

struct rw_mapping {
    uint64_t start, end;
    bool readable, writable, executable, shared;
};

// Call visit() for one mapping after the other until it says true. Returns 0 if it has, -EFAULT if
// it has not, or the error of opening or reading the file (there may be no /proc).
int rw_walk_mappings(bool (*visit)(const struct rw_mapping *mapping, void *argument),
                     void *argument);

// Find the mapping that holds the address. Returns as rw_walk_mappings() does.
int rw_find_mapping(uint64_t address, struct rw_mapping *ret);

#endif
