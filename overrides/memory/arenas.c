// Arenas: large mappings of Linux's, page by page.
//
// A fresh huge page is the dearest thing here: Linux clears it, and a machine that is virtual
// itself may have to find its memory first. So what has been used before is used again first, where
// it fits best, and an arena that is full grows where it is, so that holes of all sizes lie side by
// side.
//
// Where a huge page takes longer than small ones are worth, new memory gets small ones, and as much
// of it at once as a huge page would have been: a virtual machine that tells its host of its free
// memory loses whole huge pages, while what lies between memory in use stays.

#include "memory.h"

#include <aerokernel/memory.h>
#include <aerokernel/override.h>
#include <aerokernel/sync.h>
#include <aerokernel/time.h>
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/prctl.h>

enum {
    PAGE = 4096,
    BLOCK = 512,         // pages of a huge page
    ARENA_PAGES = 16384, // 64 MiB, by which arenas grow
    ARENA_MAX = 64 * ARENA_PAGES,
    ARENAS = 256,
    // Larger ones may be reservations, of which a part is used: zeroing them would cost more than
    // faults do.
    PAGES_MAX = ARENA_PAGES / 2,
    // Smaller ones go to the first place that is large enough: looking at all would take longer
    // than zeroing them.
    FITTED_MIN = 64,
    // Up to this many pages a copy is cheaper than to leave a hole in an arena.
    COPIED_MAX = 1024,
    STRETCHES = 16,
    // A huge page that takes longer is dear. Small ones took 0.3 ms for as much memory, and 2.5 ms
    // more over the life of a program that used them again and again.
    HUGE_DEAR_NS = 2000000,
};
#define ARENA_BYTES ((uint64_t)ARENA_PAGES * PAGE)
#define HUGE_PAGE ((uint64_t)BLOCK * PAGE)
#define LOW_TOP (2ULL << 30)

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
    uint8_t *state;   // by page; in memory of its own
    unsigned pages;   // that there are so far
    unsigned lowest;  // no page below is free
    unsigned top;     // from here on all are CLEAN
    unsigned longest; // no run of free pages below `top` is longer
};

static struct ak_spin lock; // of all below
static uint64_t kept;       // bytes that are FREE
static uint64_t small;      // bytes of new memory that get small pages before the next huge one
static uint64_t witness;    // a page left alone where others were made present; 0: none
static struct place {
    unsigned count;
    struct arena arena[ARENAS];
} anywhere, low; // low: below 2 GiB, for MAP_32BIT

// Free pages side by side.
struct run {
    struct arena *arena;
    unsigned first, pages;
};

// What has old contents in pages that have just been taken.
struct dirty {
    unsigned count;
    struct {
        unsigned first, end;
    } stretch[STRETCHES];
};

static uint64_t page_up(uint64_t address)
{
    return (address + PAGE - 1) & -(uint64_t)PAGE;
}

static uint64_t block_up(uint64_t address)
{
    return (address + HUGE_PAGE - 1) & -HUGE_PAGE;
}

static bool failed(uint64_t result)
{
    return result >= (uint64_t)-4095;
}

static struct place *next_place(const struct place *place)
{
    return place == &anywhere ? &low : NULL;
}

static uint64_t address_in(const struct arena *arena, unsigned page)
{
    return arena->start + (uint64_t)page * PAGE;
}

static uint64_t end_of(const struct arena *arena)
{
    return address_in(arena, arena->pages);
}

static bool is_free(uint8_t state)
{
    return state <= FREE;
}

// ---- From Linux ---------------------------------------------------------------------------------

static uint64_t linux_map(uint64_t at, uint64_t size, int flags)
{
    return (uint64_t)ak_linux(__NR_mmap, at, size, PROT_READ | PROT_WRITE,
                              (uint64_t)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags),
                              (uint64_t)-1, 0);
}

static int64_t linux_unmap(uint64_t start, uint64_t size)
{
    return size ? ak_linux(__NR_munmap, start, size, 0, 0, 0, 0) : 0;
}

// Returns 0 or what Linux says.
static int64_t advise(uint64_t start, uint64_t end, int advice)
{
    return start < end ? ak_linux(__NR_madvise, start, end - start, (uint64_t)advice, 0, 0, 0) : 0;
}

// An arena's address, with as much room behind it as there is. Returns 0 without memory.
static uint64_t map_arena(struct place *place)
{
    int flags = place == &low ? MAP_32BIT : 0;
    uint64_t room = HUGE_PAGE + (place == &low ? ARENA_BYTES : (uint64_t)ARENA_MAX * PAGE);
    uint64_t at = linux_map(0, room, flags);
    if (failed(at)) {
        room = HUGE_PAGE + ARENA_BYTES;
        at = linux_map(0, room, flags);
    }
    if (failed(at))
        return 0;
    uint64_t start = block_up(at);
    linux_unmap(at, start - at);
    linux_unmap(start + ARENA_BYTES, at + room - start - ARENA_BYTES);
    return start;
}

// With the lock held. Returns NULL without memory.
static struct arena *add_arena(struct place *place)
{
    if (place->count == ARENAS)
        return NULL;
    uint64_t state = linux_map(0, ARENA_MAX, 0);
    uint64_t start = failed(state) ? 0 : map_arena(place);
    if (!start) {
        if (!failed(state))
            linux_unmap(state, ARENA_MAX);
        return NULL;
    }
    advise(start, start + ARENA_BYTES, MADV_HUGEPAGE);
    struct arena *arena = &place->arena[place->count++];
    *arena = (struct arena){.start = start, .state = (uint8_t *)state, .pages = ARENA_PAGES};
    return arena;
}

// More pages where an arena ends. Returns false if Linux has something else there. With the lock
// held.
static bool grow(const struct place *place, struct arena *arena)
{
    uint64_t end = end_of(arena);
    if (arena->pages == ARENA_MAX || (place == &low && end + ARENA_BYTES > LOW_TOP))
        return false;
    uint64_t at = linux_map(end, ARENA_BYTES, MAP_FIXED_NOREPLACE);
    if (at != end) {
        if (!failed(at))
            linux_unmap(at, ARENA_BYTES);
        return false;
    }
    advise(end, end + ARENA_BYTES, MADV_HUGEPAGE);
    arena->pages += ARENA_PAGES;
    return true;
}

// Memory of the whole huge pages that are FREE and overlap [first, end) goes back to Linux, but no
// more than `bytes`. Returns how much did. With the lock held.
static uint64_t give_back(struct arena *arena, unsigned first, unsigned end, uint64_t bytes)
{
    uint64_t given = 0;
    for (unsigned block = first / BLOCK * BLOCK; block < end && given < bytes; block += BLOCK) {
        unsigned page = block;
        while (page < block + BLOCK && arena->state[page] == FREE)
            page++;
        if (page < block + BLOCK ||
            advise(address_in(arena, block), address_in(arena, page), MADV_DONTNEED))
            continue;
        for (page = block; page < block + BLOCK; page++)
            arena->state[page] = CLEAN;
        given += HUGE_PAGE;
    }
    kept -= given;
    return given;
}

// The program is about to need `bytes` elsewhere: what lies idle here goes back to Linux, which
// will give it there. With the lock held.
static void give_back_idle(uint64_t bytes)
{
    uint64_t given = 0;
    for (struct place *place = &anywhere; place; place = next_place(place))
        for (unsigned i = place->count; i-- && given < bytes && kept >= HUGE_PAGE;) {
            struct arena *arena = &place->arena[i];
            given += give_back(arena, arena->lowest, arena->top, bytes - given);
        }
}

// Touch a huge page, which the program is about to use. Returns whether that took too long.
static bool is_dear(uint64_t start)
{
    uint64_t before = ak_clock();
    *(volatile uint8_t *)start = 0;
    return ak_clock() - before > HUGE_DEAR_NS;
}

// True unless Linux has nothing at a page.
static bool is_present(uint64_t page)
{
    static uint64_t answer; // memory that Linux, too, can write to
    if (!answer)
        answer = linux_map(0, PAGE, 0);
    return failed(answer) || ak_linux(__NR_mincore, page, PAGE, answer, 0, 0, 0) ||
           *(const uint8_t *)answer & 1;
}

// The program is about to use new memory in [start, end), whole huge pages, which have been asked
// for. Where these are dear it gets small pages, which are made present; more than a huge page of
// them only if the program uses what it asks for: the page that was left alone last time tells.
// With the lock held, for as long as that takes: 5 ms for the largest.
static void make_present(uint64_t start, uint64_t end)
{
    if (start < end && !small) {
        if (!is_dear(start))
            return;
        small = ARENA_BYTES;
        start += HUGE_PAGE;
    }
    if (start >= end)
        return;
    small -= small < end - start ? small : end - start;
    bool used = true;
    uint64_t left_alone = end;
    if (end - start > HUGE_PAGE) {
        used = !witness || is_present(witness);
        left_alone = witness = start + (end - start) / HUGE_PAGE * (HUGE_PAGE / 2);
    }
    // Not by advice: neighbours that have had different advice do not become one mapping again, and
    // mremap(2) takes one only. A program that will have no huge pages gets none.
    if (!used || ak_linux(__NR_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0, 0) ||
        ak_linux(__NR_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0, 0))
        return;
    advise(start, left_alone, MADV_POPULATE_WRITE);
    advise(left_alone + PAGE, end, MADV_POPULATE_WRITE);
    ak_linux(__NR_prctl, PR_SET_THP_DISABLE, 0, 0, 0, 0, 0);
}

// ---- Runs ---------------------------------------------------------------------------------------

// Of the eight states from a multiple of eight on: 0x80 for each that is free (the lowest of them
// is right, those above a free one may be more).
static uint64_t free_ones(const uint8_t *state)
{
    const uint64_t ones = 0x0101010101010101, word = *(const uint64_t *)state;
    return (word - ones * USED) & ~word & ones << 7;
}

static bool all_free(const uint8_t *state)
{
    const uint64_t ones = 0x0101010101010101, word = *(const uint64_t *)state;
    return !(word & ~ones);
}

// The next run of free pages from `at` on, below `top`. Returns false if there is none.
static bool next_run(struct arena *arena, unsigned at, struct run *ret)
{
    const uint8_t *state = arena->state;
    while (at < arena->top && !is_free(state[at]))
        at += at % 8 == 0 && !free_ones(&state[at]) ? 8 : 1;
    if (at >= arena->top)
        return false;
    unsigned end = at;
    while (end < arena->top && is_free(state[end]))
        end += end % 8 == 0 && all_free(&state[end]) ? 8 : 1;
    *ret = (struct run){arena, at, (end < arena->top ? end : arena->top) - at};
    return true;
}

// The run below `top` that `pages` fit into best, if that is better than *best. With the lock held.
static void fit(struct arena *arena, unsigned pages, struct run *best)
{
    struct run run;
    unsigned longest = 0;
    if (arena->longest < pages)
        return;
    bool any = next_run(arena, arena->lowest, &run);
    for (arena->lowest = any ? run.first : arena->top; any;
         any = next_run(arena, run.first + run.pages, &run)) {
        longest = run.pages > longest ? run.pages : longest;
        if (run.pages < pages || (best->arena && run.pages >= best->pages))
            continue;
        *best = run;
        if (pages < FITTED_MIN || run.pages == pages)
            return;
    }
    arena->longest = longest;
}

// Free pages at an arena's end. Returns false if there are too few. With the lock held.
static bool fit_at_end(struct arena *arena, unsigned pages, struct run *ret)
{
    unsigned first = arena->top;
    while (first > arena->lowest && is_free(arena->state[first - 1]))
        first--;
    *ret = (struct run){arena, first, arena->pages - first};
    return ret->pages >= pages;
}

// Free pages, from Linux if there are none. Returns false without memory. With the lock held.
static bool find(struct place *place, unsigned pages, struct run *ret)
{
    *ret = (struct run){0};
    for (unsigned i = 0; i < place->count && !(ret->arena && pages < FITTED_MIN); i++)
        fit(&place->arena[i], pages, ret);
    if (ret->arena)
        return true;
    for (unsigned i = 0; i < place->count; i++)
        if (fit_at_end(&place->arena[i], pages, ret))
            return true;
    struct arena *last = place->count ? &place->arena[place->count - 1] : NULL;
    if (last && grow(place, last))
        return fit_at_end(last, pages, ret);
    last = add_arena(place);
    return last && fit_at_end(last, pages, ret);
}

// Take the pages [first, first + pages), which are free, with the lock held. dirty: what of them
// the caller has to zero.
static void take(struct arena *arena, unsigned first, unsigned pages, struct dirty *dirty)
{
    unsigned count = 0, end = first + pages;
    for (unsigned i = first; i < end; i++) {
        if (arena->state[i] == FREE) {
            kept -= PAGE;
            bool joins = count && (dirty->stretch[count - 1].end == i || count == STRETCHES);
            if (!joins)
                dirty->stretch[count++].first = i;
            dirty->stretch[count - 1].end = i + 1;
        }
        arena->state[i] = USED;
    }
    dirty->count = count;
    if (end > arena->top) {
        make_present(block_up(address_in(arena, arena->top)), block_up(address_in(arena, end)));
        arena->top = end;
    }
    if (arena->lowest == first)
        arena->lowest = end;
}

static void zero(uint64_t at, uint64_t size)
{
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(0) : "memory");
}

// Zero what is dirty from page `first` on.
static void clean(const struct arena *arena, const struct dirty *dirty, unsigned first)
{
    for (unsigned i = 0; i < dirty->count; i++) {
        unsigned end = dirty->stretch[i].end;
        unsigned from = dirty->stretch[i].first > first ? dirty->stretch[i].first : first;
        if (from < end)
            zero(address_in(arena, from), (uint64_t)(end - from) * PAGE);
    }
}

// Memory from a place, zeroed but for the first `written` pages, which the caller writes anyway.
// Returns 0 without memory.
static uint64_t allocate(struct place *place, unsigned pages, unsigned written)
{
    struct dirty dirty;
    struct run run;
    ak_spin_lock(&lock);
    bool found = find(place, pages, &run);
    if (found)
        take(run.arena, run.first, pages, &dirty);
    ak_spin_unlock(&lock);
    if (!found)
        return 0;
    clean(run.arena, &dirty, run.first + written);
    return address_in(run.arena, run.first);
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
    for (struct place *place = &anywhere; place; place = next_place(place))
        for (unsigned i = 0; i < place->count; i++) {
            struct arena *arena = &place->arena[i];
            if (arena->start < end && end_of(arena) > *at &&
                (!found || arena->start < found->start))
                found = arena;
        }
    if (!found)
        return false;
    uint64_t first = *at > found->start ? *at - found->start : 0;
    uint64_t last = (end < end_of(found) ? end : end_of(found)) - found->start;
    *ret = (struct part){found, (unsigned)(first / PAGE), (unsigned)(last / PAGE)};
    *at = found->start + last;
    return true;
}

// The whole pages of a range, if it is one that Linux takes.
static bool is_range(const void *address, uint64_t size, uint64_t *start, uint64_t *end)
{
    *start = (uint64_t)address;
    *end = *start + page_up(size);
    return size && *start % PAGE == 0 && size < AK_PROGRAM_END && *start < AK_PROGRAM_END &&
           *end <= AK_PROGRAM_END;
}

static uint64_t address_of(const struct part *part)
{
    return address_in(part->arena, part->first);
}

static bool is_low(const struct arena *arena)
{
    return arena >= low.arena && arena < low.arena + ARENAS;
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
        err = linux_unmap(address_in(arena, i), (uint64_t)(end - i) * PAGE);
        i = end;
    }
    arena->lowest = part->first < arena->lowest ? part->first : arena->lowest;
    arena->longest = ARENA_MAX; // it may be beside others
    if (kept > ak_memory_high())
        give_back(arena, part->first, part->end, UINT64_MAX);
    return err;
}
