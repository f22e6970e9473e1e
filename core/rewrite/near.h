// Memory for code within reach of a 32-bit displacement, and writing to code.
#ifndef MV_REWRITE_NEAR_H
#define MV_REWRITE_NEAR_H

#include "base/string.h"
#include "base/types.h"

// True if code at `at` reaches all of [pool, pool + 1 MiB).
bool rw_reaches(uint64_t pool, uint64_t at);

// Map memory, at most 1 MiB, readable and executable, within reach of `at`: where Linux would put
// it, else below. Returns 0 if there is none.
uint64_t rw_map_near(uint64_t at, uint64_t size);

// mprotect(2) on the pages of a range. Returns 0 or a negative errno.
int rw_protect(uint64_t start, uint64_t size, int prot);

static inline void rw_put32(uint8_t *to, int64_t value)
{
    int32_t narrow = (int32_t)value;
    memcpy(to, &narrow, sizeof(narrow));
}

#endif
