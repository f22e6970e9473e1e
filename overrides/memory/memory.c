#include "memory.h"

#include <aerokernel/override.h>
#include <aerokernel/sync.h>
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/mman.h>

// Something of the program's own is about to be in pages before `end`, maybe beyond all that have
// been in use. With the lock held.
static void raise_top(struct arena *arena, unsigned end)
{
    if (end <= arena->top)
        return;
    arena->top = end;
    arena->longest = ARENA_MAX; // there may be as many before what is new
}

// Give a range to Linux, which is about to put something else there. With the lock held.
static void give_up(uint64_t start, uint64_t end)
{
    struct part part;
    for (uint64_t at = start; next_part(&at, end, &part);) {
        for (unsigned i = part.first; i < part.end; i++) {
            kept -= part.arena->state[i] == FREE ? PAGE : 0;
            part.arena->state[i] = GONE;
        }
        raise_top(part.arena, part.end);
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
    const uint64_t served = MAP_PRIVATE | MAP_ANONYMOUS;
    const uint64_t ignored = MAP_NORESERVE | MAP_32BIT | MAP_UNINITIALIZED;
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
        return map_fixed(address, size, prot, flags, fd, offset);
    if (address || prot != (PROT_READ | PROT_WRITE) || (flags & ~ignored) != served || !size ||
        size > (uint64_t)PAGES_MAX * PAGE)
        return AK_FALLBACK;
    unsigned pages = (unsigned)((size + PAGE - 1) / PAGE);
    struct place *place = flags & MAP_32BIT ? &low : &anywhere;
    uint64_t start = allocate(place, pages, flags & MAP_UNINITIALIZED ? pages : 0);
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
    unsigned end = part->first + pages;
    struct dirty dirty;
    int64_t address = (int64_t)address_of(part);
    if (end <= part->end) {
        struct part rest = {arena, end, part->end};
        return end == part->end || release(&rest) == 0 ? address : AK_FALLBACK;
    }
    for (unsigned i = part->end; i < end; i++)
        if (i >= arena->pages || !is_free(arena->state[i]))
            return AK_FALLBACK;
    take(arena, part->end, end - part->end, &dirty);
    clean(arena, &dirty, part->end);
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
    unsigned written = part.end - part.first;
    uint64_t moved = allocate(is_low(part.arena) ? &low : &anywhere, (unsigned)pages, written);
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
    for (uint64_t at = start; next_part(&at, end, &part);) {
        for (unsigned i = part.first; i < part.end; i++) {
            uint8_t *state = &part.arena->state[i];
            kept -= *state == FREE ? PAGE : 0;
            *state = *state == USED || *state == SPECIAL ? SPECIAL : GONE;
        }
        raise_top(part.arena, part.end);
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
