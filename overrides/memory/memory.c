#include "memory.h"

#include <aerokernel/memory.h>
#include <aerokernel/override.h>
#include <aerokernel/sync.h>
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/mman.h>

enum {
    PAGE = 4096,
    ARENA_PAGES = 16384, // 64 MiB
    ARENAS = 256,
    // Larger ones may be reservations, of which a part is used: zeroing them would cost more than
    // faults do.
    PAGES_MAX = ARENA_PAGES / 2,
    // Up to this many pages a copy is cheaper than to leave a hole in an arena.
    COPIED_MAX = 1024,
};
#define ARENA_BYTES ((uint64_t)ARENA_PAGES * PAGE)
#define HUGE_PAGE (2ULL << 20)
#define MAP_TOP (1ULL << 47)

// What an arena's page is.
enum state {
    CLEAN,   // free, and zero
    FREE,    // free, with old contents
    USED,    // the program's
    SPECIAL, // the program's, and not as we have mapped it
    GONE,    // Linux's: some other mapping, or none
};

struct arena {
    uint64_t start;
    uint8_t *state;  // by page; in memory of its own
    unsigned lowest; // no page below is free
};

static struct ak_spin lock; // of all below
static uint64_t kept;       // bytes that are FREE
static struct place {
    unsigned count;
    struct arena arena[ARENAS];
} anywhere, low; // low: below 2 GiB, for MAP_32BIT

// The heap of brk(2). Linux's break is never below the program's.
static struct {
    uint64_t start, now, limit; // the program's break and Linux's; 0: nobody has asked yet
    uint64_t top;               // above it everything is zero
    bool changed;               // parts of it are mapped in other ways: it is Linux's alone
} heap;
// A heap of this size gets huge pages, and then Linux's break is a multiple of them.
#define HEAP_LARGE (4 * HUGE_PAGE)

// ---- Arenas -------------------------------------------------------------------------------------

static uint64_t linux_map(uint64_t size, int flags)
{
    return (uint64_t)ak_linux(__NR_mmap, 0, size, PROT_READ | PROT_WRITE,
                              (uint64_t)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags),
                              (uint64_t)-1, 0);
}

static uint64_t page_up(uint64_t address)
{
    return (address + PAGE - 1) & -(uint64_t)PAGE;
}

static bool failed(uint64_t result)
{
    return result >= (uint64_t)-4095;
}

// With the lock held. Returns NULL without memory.
static struct arena *add_arena(struct place *place)
{
    if (place->count == ARENAS)
        return NULL;
    int flags = place == &low ? MAP_32BIT : 0;
    uint64_t room = ARENA_BYTES + HUGE_PAGE, at = linux_map(room, flags);
    if (failed(at))
        return NULL;
    uint64_t state = linux_map(ARENA_PAGES, 0);
    if (failed(state)) {
        ak_linux(__NR_munmap, at, room, 0, 0, 0, 0);
        return NULL;
    }
    uint64_t start = (at + HUGE_PAGE - 1) & -HUGE_PAGE;
    if (start > at)
        ak_linux(__NR_munmap, at, start - at, 0, 0, 0, 0);
    if (start - at < HUGE_PAGE)
        ak_linux(__NR_munmap, start + ARENA_BYTES, HUGE_PAGE - (start - at), 0, 0, 0, 0);
    ak_linux(__NR_madvise, start, ARENA_BYTES, MADV_HUGEPAGE, 0, 0, 0);
    struct arena *arena = &place->arena[place->count++];
    *arena = (struct arena){.start = start, .state = (uint8_t *)state};
    return arena;
}

static bool is_free(uint8_t state)
{
    return state <= FREE;
}

// True if one of the eight states from a multiple of eight on is free.
static bool any_free(const uint8_t *state)
{
    const uint64_t ones = 0x0101010101010101, word = *(const uint64_t *)state;
    return (word - ones * USED) & ~word & ones << 7;
}

// The first run of `pages` free pages, or ARENA_PAGES. With the lock held.
static unsigned find_run(struct arena *arena, unsigned pages)
{
    unsigned at = arena->lowest, first = ARENA_PAGES;
    while (at < ARENA_PAGES) {
        if (at % 8 == 0 && !any_free(&arena->state[at])) {
            at += 8;
            continue;
        }
        if (!is_free(arena->state[at])) {
            at++;
            continue;
        }
        unsigned end = at;
        while (end < ARENA_PAGES && end - at < pages && is_free(arena->state[end]))
            end++;
        if (first == ARENA_PAGES)
            first = at;
        if (end - at == pages) {
            arena->lowest = first < at ? first : end;
            return at;
        }
        at = end;
    }
    arena->lowest = first;
    return ARENA_PAGES;
}

static void zero(uint64_t at, uint64_t size)
{
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(0) : "memory");
}

// Take the pages [first, first + pages), which are free, with the lock held. dirty: the caller's
// bounds of what it has to zero.
static void take(struct arena *arena, unsigned first, unsigned pages, unsigned dirty[2])
{
    dirty[0] = first + pages;
    dirty[1] = first;
    for (unsigned i = first; i < first + pages; i++) {
        if (arena->state[i] == FREE) {
            dirty[0] = i < dirty[0] ? i : dirty[0];
            dirty[1] = i + 1;
            kept -= PAGE;
        }
        arena->state[i] = USED;
    }
}

// Zeroed memory from a place. Returns 0 without memory.
static uint64_t allocate(struct place *place, unsigned pages)
{
    struct arena *arena = NULL;
    unsigned first = ARENA_PAGES, dirty[2];
    ak_spin_lock(&lock);
    for (unsigned i = 0; i < place->count && first == ARENA_PAGES; i++) {
        arena = &place->arena[i];
        first = find_run(arena, pages);
    }
    if (first == ARENA_PAGES) {
        arena = add_arena(place);
        first = arena ? find_run(arena, pages) : ARENA_PAGES;
    }
    uint64_t start = 0;
    if (first < ARENA_PAGES) {
        start = arena->start;
        take(arena, first, pages, dirty);
    }
    ak_spin_unlock(&lock);
    if (!start)
        return 0;
    if (dirty[1] > dirty[0])
        zero(start + (uint64_t)dirty[0] * PAGE, (uint64_t)(dirty[1] - dirty[0]) * PAGE);
    return start + (uint64_t)first * PAGE;
}

// ---- Ranges -------------------------------------------------------------------------------------

// The part of a range that lies in an arena.
struct part {
    struct arena *arena;
    unsigned first, end; // pages
};

// The next part of [*at, end), with *at behind it afterwards. Returns false if there is none.
static bool next_part(uint64_t *at, uint64_t end, struct part *ret)
{
    struct arena *found = NULL;
    if (*at >= end)
        return false;
    for (struct place *place = &anywhere; place; place = place == &anywhere ? &low : NULL)
        for (unsigned i = 0; i < place->count; i++) {
            struct arena *arena = &place->arena[i];
            if (arena->start < end && arena->start + ARENA_BYTES > *at &&
                (!found || arena->start < found->start))
                found = arena;
        }
    if (!found)
        return false;
    uint64_t first = *at > found->start ? *at - found->start : 0;
    uint64_t last = end - found->start < ARENA_BYTES ? end - found->start : ARENA_BYTES;
    *ret = (struct part){found, (unsigned)(first / PAGE), (unsigned)(last / PAGE)};
    *at = found->start + last;
    return true;
}

// The whole pages of a range, if it is one that Linux takes.
static bool is_range(const void *address, uint64_t size, uint64_t *start, uint64_t *end)
{
    *start = (uint64_t)address;
    *end = *start + page_up(size);
    return size && *start % PAGE == 0 && size < MAP_TOP && *start < MAP_TOP && *end <= MAP_TOP;
}

static uint64_t address_of(const struct part *part)
{
    return part->arena->start + (uint64_t)part->first * PAGE;
}

static bool is_low(const struct arena *arena)
{
    return arena >= low.arena && arena < low.arena + ARENAS;
}

static int64_t linux_unmap(uint64_t start, uint64_t size)
{
    return ak_linux(__NR_munmap, start, size, 0, 0, 0, 0);
}

// Too much lies idle: what has just been let go goes back to Linux. With the lock held.
static void give_back(const struct part *part)
{
    struct arena *arena = part->arena;
    for (unsigned i = part->first, end; i<part->end; i = end> i ? end : i + 1) {
        for (end = i; end < part->end && arena->state[end] == FREE;)
            end++;
        uint64_t size = (uint64_t)(end - i) * PAGE;
        if (!size ||
            ak_linux(__NR_madvise, arena->start + (uint64_t)i * PAGE, size, MADV_DONTNEED, 0, 0, 0))
            continue;
        kept -= size;
        for (unsigned page = i; page < end; page++)
            arena->state[page] = CLEAN;
    }
}

// Let go of a part: free pages for us, and what is not as we have mapped it for Linux to unmap.
// With the lock held. Returns 0 or what Linux says.
static int64_t release(struct part *part)
{
    struct arena *arena = part->arena;
    int64_t err = 0;
    for (unsigned i = part->first; i < part->end && !err;) {
        unsigned end = i;
        if (arena->state[i] < SPECIAL) {
            kept += arena->state[i] == USED ? PAGE : 0;
            arena->state[i] = arena->state[i] == USED ? FREE : arena->state[i];
            i++;
            continue;
        }
        while (end < part->end && arena->state[end] >= SPECIAL)
            arena->state[end++] = GONE;
        err = linux_unmap(arena->start + (uint64_t)i * PAGE, (uint64_t)(end - i) * PAGE);
        i = end;
    }
    arena->lowest = part->first < arena->lowest ? part->first : arena->lowest;
    if (kept > ak_memory_high())
        give_back(part);
    return err;
}

// ---- The heap -----------------------------------------------------------------------------------

static uint64_t linux_break(uint64_t to)
{
    return (uint64_t)ak_linux(__NR_brk, to, 0, 0, 0, 0, 0);
}

// Something else is about to happen to [start, end): if that is the heap's, leave it to Linux from
// now on. With the lock held.
static void leave_heap(uint64_t start, uint64_t end)
{
    if (heap.changed || !heap.limit || start >= page_up(heap.limit) || end <= heap.start)
        return;
    heap.changed = true;
    if (heap.now < heap.limit)
        linux_break(heap.now);
}

// Have Linux's break at `to`, or, of a large heap, at the next huge page. Returns false without
// memory. With the lock held.
static bool extend_heap(uint64_t to)
{
    uint64_t end = (to + HUGE_PAGE - 1) & -HUGE_PAGE, first = page_up(heap.limit);
    if (to - heap.start < HEAP_LARGE || linux_break(end) != end)
        end = linux_break(to) == to ? to : 0;
    if (end && end != to)
        ak_linux(__NR_madvise, first, end - first, MADV_HUGEPAGE, 0, 0, 0);
    heap.limit = end ? end : heap.limit;
    return end;
}

// Linux's break, too, moves down to the program's. With the lock held.
static bool shrink_heap(uint64_t to)
{
    if (linux_break(to) != to)
        return false;
    heap.limit = heap.now = to;
    heap.top = heap.top < to ? heap.top : to;
    heap.start = heap.start < to ? heap.start : to;
    return true;
}

// Move the program's break. Returns false if Linux refuses. With the lock held.
static bool move_break(uint64_t to)
{
    if (to < heap.start || (to < heap.limit && heap.limit - to > ak_memory_high()))
        return shrink_heap(to);
    if (to > heap.limit && !extend_heap(to))
        return false;
    uint64_t end = to < heap.top ? to : heap.top;
    if (end > heap.now)
        zero(heap.now, end - heap.now);
    heap.now = to;
    heap.top = to > heap.top ? to : heap.top;
    return true;
}

int64_t memory_break(void *address)
{
    uint64_t to = (uint64_t)address;
    ak_spin_lock(&lock);
    if (!heap.limit)
        heap.start = heap.now = heap.limit = heap.top = linux_break(0);
    uint64_t result = heap.changed ? linux_break(to) : heap.now;
    if (!heap.changed && to && move_break(to))
        result = to;
    ak_spin_unlock(&lock);
    return (int64_t)result;
}

// ---- The calls ----------------------------------------------------------------------------------

// Give a range to Linux, which is about to put something else there. With the lock held.
static void give_up(uint64_t start, uint64_t end)
{
    struct part part;
    for (uint64_t at = start; next_part(&at, end, &part);)
        for (unsigned i = part.first; i < part.end; i++) {
            kept -= part.arena->state[i] == FREE ? PAGE : 0;
            part.arena->state[i] = GONE;
        }
}

// A mapping that replaces what is in a range.
static int64_t map_fixed(void *address, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd,
                         int64_t offset)
{
    uint64_t start, end;
    struct part part;
    bool any = false, used = false;
    if (!is_range(address, size, &start, &end))
        return AK_FALLBACK;
    ak_spin_lock(&lock);
    leave_heap(start, end);
    for (uint64_t at = start; next_part(&at, end, &part); any = true)
        for (unsigned i = part.first; i < part.end; i++)
            used = used || !is_free(part.arena->state[i]);
    // What the program has unmapped is free to it, and taken to Linux.
    bool no_replace = flags & MAP_FIXED_NOREPLACE, gives_way = any && no_replace && !used;
    if (any && (!no_replace || gives_way))
        give_up(start, end);
    if (gives_way)
        for (uint64_t at = start; next_part(&at, end, &part);)
            linux_unmap(address_of(&part), (uint64_t)(part.end - part.first) * PAGE);
    int64_t result = AK_FALLBACK;
    if (any)
        result = ak_linux(__NR_mmap, start, size, prot, flags, fd, (uint64_t)offset);
    ak_spin_unlock(&lock);
    return result;
}

int64_t memory_map(void *address, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd,
                   int64_t offset)
{
    const uint64_t served = MAP_PRIVATE | MAP_ANONYMOUS, ignored = MAP_NORESERVE | MAP_32BIT;
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
        return map_fixed(address, size, prot, flags, fd, offset);
    if (address || prot != (PROT_READ | PROT_WRITE) || (flags & ~ignored) != served || !size ||
        size > (uint64_t)PAGES_MAX * PAGE)
        return AK_FALLBACK;
    unsigned pages = (unsigned)((size + PAGE - 1) / PAGE);
    uint64_t start = allocate(flags & MAP_32BIT ? &low : &anywhere, pages);
    return start ? (int64_t)start : AK_FALLBACK;
}

int64_t memory_unmap(void *address, uint64_t size)
{
    uint64_t start, end, at, done;
    struct part part;
    int64_t err = 0;
    bool any = false;
    if (!is_range(address, size, &start, &end))
        return AK_FALLBACK;
    ak_spin_lock(&lock);
    leave_heap(start, end);
    for (at = done = start; !err && next_part(&at, end, &part); done = at) {
        uint64_t from = address_of(&part);
        if (from > done)
            err = linux_unmap(done, from - done);
        if (!err)
            err = release(&part);
        any = true;
    }
    if (any && !err && done < end)
        err = linux_unmap(done, end - done);
    ak_spin_unlock(&lock);
    return any ? err : AK_FALLBACK;
}

static void copy(uint64_t to, uint64_t from, uint64_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

// Grow or shrink what lies in one arena, where it is. Returns its address, or AK_FALLBACK. With the
// lock held.
static int64_t resize(const struct part *part, unsigned pages)
{
    struct arena *arena = part->arena;
    unsigned end = part->first + pages, dirty[2];
    int64_t address = (int64_t)address_of(part);
    if (end <= part->end) {
        struct part rest = {arena, end, part->end};
        return end == part->end || release(&rest) == 0 ? address : AK_FALLBACK;
    }
    for (unsigned i = part->end; i < end; i++)
        if (i >= ARENA_PAGES || !is_free(arena->state[i]))
            return AK_FALLBACK;
    take(arena, part->end, end - part->end, dirty);
    if (dirty[1] > dirty[0])
        zero(arena->start + (uint64_t)dirty[0] * PAGE, (uint64_t)(dirty[1] - dirty[0]) * PAGE);
    return address;
}

// True if the range is all as memory_map() has given it.
static bool is_ours(const struct part *part, uint64_t start, uint64_t end)
{
    if (address_of(part) != start || end - start != (uint64_t)(part->end - part->first) * PAGE)
        return false;
    for (unsigned i = part->first; i < part->end; i++)
        if (part->arena->state[i] != USED)
            return false;
    return true;
}

int64_t memory_remap(void *address, uint64_t old_size, uint64_t new_size, uint64_t flags, void *to)
{
    uint64_t start, end, target, target_end;
    struct part part;
    int64_t result = AK_FALLBACK;
    if (!is_range(address, old_size, &start, &end) ||
        !is_range(flags & MREMAP_FIXED ? to : NULL, new_size, &target, &target_end))
        return AK_FALLBACK;
    uint64_t pages = (target_end - target) / PAGE;
    ak_spin_lock(&lock);
    leave_heap(start, end);
    if (flags & MREMAP_FIXED)
        leave_heap(target, target_end);
    uint64_t at = start;
    bool ours = !(flags & ~(uint64_t)MREMAP_MAYMOVE) && next_part(&at, end, &part) &&
                is_ours(&part, start, end);
    if (ours && pages <= PAGES_MAX)
        result = resize(&part, (unsigned)pages);
    bool copies = ours && result == AK_FALLBACK && flags & MREMAP_MAYMOVE && pages <= COPIED_MAX;
    if (result == AK_FALLBACK && !copies) {
        if (flags & MREMAP_FIXED)
            give_up(target, target_end);
        give_up(start, end); // also what Linux leaves mapped is its own from now on
    }
    ak_spin_unlock(&lock);
    if (!copies)
        return result;
    uint64_t moved = allocate(is_low(part.arena) ? &low : &anywhere, (unsigned)pages);
    if (!moved)
        return -ENOMEM;
    copy(moved, start, end - start);
    memory_unmap(address, old_size);
    return (int64_t)moved;
}

int64_t memory_changes(const void *address, uint64_t size)
{
    uint64_t start, end;
    struct part part;
    if (!is_range(address, size, &start, &end))
        return AK_FALLBACK;
    ak_spin_lock(&lock);
    leave_heap(start, end);
    for (uint64_t at = start; next_part(&at, end, &part);)
        for (unsigned i = part.first; i < part.end; i++) {
            uint8_t *state = &part.arena->state[i];
            kept -= *state == FREE ? PAGE : 0;
            *state = *state == USED || *state == SPECIAL ? SPECIAL : GONE;
        }
    ak_spin_unlock(&lock);
    return AK_FALLBACK;
}

bool memory_is_harmless(int advice)
{
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_HUGEPAGE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_COLLAPSE:
        return true;
    default:
        return false;
    }
}
