// Types and small macros that every layer of the core uses.
#ifndef MV_BASE_TYPES_H
#define MV_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define PAGE_SIZE KIB(4)
#define LEAF_SIZE MIB(2) // what one guest leaf of the page directory maps

// End of the lower half that Linux gives to programs (4-level paging).
#define TASK_END 0x7ffffffff000ULL

#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a) - 1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + ((uint64_t)(a) - 1), a)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

// True if [start, start+size) lies in the lower half; the sum may wrap.
static inline bool range_is_lower_half(uint64_t start, uint64_t size)
{
    return size <= TASK_END && start <= TASK_END - size;
}

// True if [a, a+an) and [b, b+bn) share a byte; lengths are in bytes, sums do not wrap.
static inline bool ranges_overlap(uint64_t a, uint64_t an, uint64_t b, uint64_t bn)
{
    return a < b + bn && b < a + an;
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (uint64_t)hi << 32;
}

#endif
