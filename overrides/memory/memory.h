// mmap(2) and its kin for anonymous memory, out of arenas: large mappings of Linux's that are never
// given up, so that memory which has been used before is there again without a page fault. It is
// zeroed instead.
//
// Every function may return AK_FALLBACK: Linux answers.
#ifndef MEMORY_H
#define MEMORY_H

#include <linux/shm.h>
#include <stdbool.h>
#include <stdint.h>

// More than a shared memory segment can have; the end of the address space bounds it.
#define MEMORY_SEGMENT (1ULL << 46)

int64_t memory_map(void *address, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd,
                   int64_t offset);
int64_t memory_unmap(void *address, uint64_t size);
int64_t memory_remap(void *address, uint64_t old_size, uint64_t new_size, uint64_t flags, void *to);
int64_t memory_break(void *address);
// A call is about to change how a range is mapped.
int64_t memory_changes(const void *address, uint64_t size);
// True if this advice changes no more than the contents of pages, or nothing.
bool memory_is_harmless(int advice);

#endif
