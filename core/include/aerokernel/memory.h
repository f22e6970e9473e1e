/// @file
/// Memory of the AeroKernel's own: a buddy allocator for pages and a slab allocator for objects,
/// over arenas that it takes from Linux in large pieces. Their addresses mean the same to Linux, so
/// they may be given to system calls. In a native program they are the machine's memory. Everything
/// may be freed on any virtual CPU.
///
/// None of these functions may be called from a signal handler.
#ifndef AEROKERNEL_MEMORY_H
#define AEROKERNEL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Largest order of ak_pages_alloc(): 2^AK_ORDER_MAX pages, 64 MiB.
#define AK_ORDER_MAX 14u

/// 2^order contiguous pages of 4 KiB, aligned to their size, contents undefined; NULL without
/// memory.
void *ak_pages_alloc(unsigned order);
/// Free what ak_pages_alloc() has given, whole.
void ak_pages_free(void *pages);

/// An object of at least `size` bytes, aligned to 16, and to its size if that is a power of two;
/// contents undefined; NULL without memory or beyond the largest order.
void *ak_alloc(size_t size);
/// The same, zeroed.
void *ak_zalloc(size_t size);
/// Free an object; NULL is none.
void ak_free(void *object);
/// Bytes that an object of ak_alloc() has room for.
size_t ak_alloc_size(const void *object);

struct ak_memory_info {
    uint64_t arena_bytes; ///< taken from Linux, or of the machine
    uint64_t used_bytes;  ///< handed out as pages, to callers and to slabs
};
void ak_memory_info(struct ak_memory_info *ret);

#ifdef __cplusplus
}
#endif

#endif
