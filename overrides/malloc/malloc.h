// Large blocks of the C library's malloc(3), each a mapping of its own.
//
// A block is what glibc itself makes of a mapping: its header is the same, but for a bit by which
// it is known here. So all other functions of glibc's (malloc_usable_size(3), ...) take it for
// theirs; so does free(3), when the process has left the HRT. Whoever brings another malloc does
// not get here, and what is not from here goes on to glibc.
#ifndef MALLOC_H
#define MALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MALLOC_LARGE = 1 << 20, // bytes: smaller ones are glibc's, whose heap has them at least as fast
    MALLOC_MAX = 31 << 20,  // more is a mapping of glibc's anyway; the set `memory` has no larger
    MALLOC_PAGE = 4096,
};

// In the word before a block, below its size: glibc's bits for a block that is a mapping, and for
// one behind a block in use, which no mapping has.
#define MALLOC_MAPPED 2ULL
#define MALLOC_OURS 1ULL

static inline bool malloc_is_large(size_t size)
{
    return size - MALLOC_LARGE <= MALLOC_MAX - MALLOC_LARGE;
}

static inline bool malloc_is_ours(const void *block)
{
    const uint64_t *word = (const uint64_t *)block, bits = MALLOC_MAPPED | MALLOC_OURS;
    return (uint64_t)block % MALLOC_PAGE == 16 && (word[-1] & bits) == bits;
}

// malloc(3) for a large size, calloc(3), and realloc(3) and free(3) of what these have given.
// malloc_block() and malloc_zeroed() may return AK_FALLBACK, malloc_resized() a negative errno.
int64_t malloc_block(size_t size);
int64_t malloc_zeroed(size_t count, size_t size);
int64_t malloc_resized(void *block, size_t size);
void malloc_freed(void *block);

#endif
