#include "gc.h"

#include <aerokernel/cpu.h>
#include <aerokernel/override.h>
#include <aerokernel/page.h>
#include <aerokernel/sync.h>
#include <asm/unistd.h>
#include <linux/mman.h>

enum {
    PAGE = 4096,
    PAGES = 512, // of a region
    WORD = 64,
    // For regions; half of them are used at most. That bounds the page tables, too, which are never
    // given up: 16 MiB.
    SLOTS = 1 << 13,
    OFTEN = 8, // that often a region is protected before its pages are ours
};
#define REGION ((uint64_t)PAGES * PAGE)
#define MAP_TOP (1ULL << 47)
#define ENTRY_PRESENT 1ULL // Intel SDM volume 3, 4.5
#define ENTRY_WRITE 2ULL

// 2 MiB of the address space in which something has been protected.
struct region {
    uint64_t start;              // 0: none; nothing is mapped there (mmap_min_addr)
    uint64_t ours[PAGES / WORD]; // by page: to Linux it is readable and writable
    unsigned protections;
};

static struct ak_spin lock;  // of all below
static struct region *slots; // a hash table, in memory of its own
static unsigned used;
static uint64_t owned; // pages that are ours

// ---- Regions ------------------------------------------------------------------------------------

// The region of an address, or NULL: not known, or, with `make`, no room. With the lock held.
static struct region *find(uint64_t address, bool make)
{
    uint64_t start = address & -REGION;
    if (!slots && make) {
        int64_t at = ak_linux(__NR_mmap, 0, SLOTS * sizeof(*slots), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
        slots = at < 0 ? NULL : (struct region *)at;
    }
    if (!slots || !start)
        return NULL;
    unsigned i = (unsigned)((start / REGION * 0x9e3779b97f4a7c15) >> 32) % SLOTS;
    while (slots[i].start && slots[i].start != start)
        i = (i + 1) % SLOTS;
    if (slots[i].start)
        return &slots[i];
    if (!make || used == SLOTS / 2)
        return NULL;
    used++;
    slots[i].start = start;
    return &slots[i];
}

static uint64_t *word_of(struct region *region, uint64_t address, uint64_t *bit)
{
    unsigned page = (unsigned)(address % REGION / PAGE);
    *bit = 1ULL << page % WORD;
    return &region->ours[page / WORD];
}

static bool has(struct region *region, uint64_t address)
{
    uint64_t bit;
    return region && *word_of(region, address, &bit) & bit;
}

// The end of the pages from `at` on that are all ours, or all not. With the lock held.
static uint64_t run_end(uint64_t at, uint64_t end, bool *ours)
{
    struct region *region = find(at, false);
    *ours = has(region, at);
    while (at < end && has(region, at) == *ours) {
        at = region ? at + PAGE : (at & -REGION) + REGION;
        if (at % REGION == 0)
            region = find(at, false);
    }
    return at < end ? at : end;
}

// With the lock held. Returns false if there is no room; nothing is ours then.
static bool mark(uint64_t start, uint64_t end, bool ours)
{
    for (uint64_t at = start; at < end; at = (at & -REGION) + REGION)
        if (ours && !find(at, true))
            return false;
    struct region *region = NULL;
    for (uint64_t at = start, bit; at < end; at += PAGE) {
        if (at == start || at % REGION == 0)
            region = find(at, false);
        uint64_t *word = word_of(region, at, &bit);
        if (!!(*word & bit) == ours)
            continue;
        *word ^= bit;
        owned += ours ? 1 : -1ULL;
    }
    return true;
}

static bool any_ours(uint64_t start, uint64_t end)
{
    bool ours = false;
    return owned && (run_end(start, end, &ours) < end || ours);
}

// Linux is about to put something else there. With the lock held.
static void forget(uint64_t start, uint64_t end)
{
    bool ours;
    for (uint64_t at = start, next; at < end && owned; at = next) {
        next = run_end(at, end, &ours);
        if (ours)
            mark(at, next, false);
    }
}

// The whole pages of a range, if it is one that Linux takes.
static bool is_range(const void *address, uint64_t size, uint64_t *start, uint64_t *end)
{
    *start = (uint64_t)address;
    *end = *start + ((size + PAGE - 1) & -(uint64_t)PAGE);
    return size && *start % PAGE == 0 && size < MAP_TOP && *start < MAP_TOP && *end <= MAP_TOP;
}

// ---- Protection ---------------------------------------------------------------------------------

static int64_t linux_protect(uint64_t start, uint64_t end, uint64_t prot)
{
    return ak_linux(__NR_mprotect, start, end - start, prot, 0, 0, 0);
}

static uint64_t allowed(uint64_t address)
{
    uint64_t entry = 0;
    ak_page_entry((const void *)address, &entry);
    if (!(entry & ENTRY_PRESENT))
        return PROT_NONE;
    return entry & ENTRY_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
}

// Pages that are ours to Linux, protected as they are. With the lock held.
static void give_back(uint64_t start, uint64_t end)
{
    bool ours;
    for (uint64_t at = start, next; at < end && owned; at = next) {
        next = run_end(at, end, &ours);
        for (uint64_t first = at, last; ours && first < next; first = last) {
            uint64_t prot = allowed(first);
            for (last = first + PAGE; last < next && allowed(last) == prot;)
                last += PAGE;
            if (prot != (PROT_READ | PROT_WRITE))
                linux_protect(first, last, prot);
        }
        if (ours)
            mark(at, next, false);
    }
}

// What Linux has just protected, to be ours from now on, if there is room. With the lock held.
static void take(uint64_t start, uint64_t end, uint64_t prot, enum ak_page_access access)
{
    if ((end - start) / REGION > SLOTS / 2 - used || !mark(start, end, true))
        return;
    if (ak_page_adopt((void *)start, end - start, access)) {
        mark(start, end, false);
        linux_protect(start, end, prot);
    }
}

static int64_t protect(uint64_t start, uint64_t end, uint64_t prot, enum ak_page_access access,
                       bool often)
{
    int64_t err = 0;
    bool ours;
    for (uint64_t at = start, next; !err && at < end; at = next) {
        next = run_end(at, end, &ours);
        if (ours && ak_page_protect((void *)at, next - at, access)) { // not translated as it was
            mark(at, next, false);
            ours = false;
        }
        if (!ours)
            err = linux_protect(at, next, prot);
        if (!ours && !err && often)
            take(at, next, prot, access);
    }
    return err;
}

int64_t gc_protect(void *address, uint64_t size, uint64_t prot)
{
    uint64_t start, end;
    enum ak_page_access access = prot == PROT_NONE   ? AK_PAGE_NONE
                                 : prot == PROT_READ ? AK_PAGE_READ
                                                     : AK_PAGE_WRITE;
    if (ak_ring() || !is_range(address, size, &start, &end))
        return AK_FALLBACK;
    int64_t result = AK_FALLBACK;
    ak_spin_lock(&lock);
    if (access == AK_PAGE_WRITE && prot != (PROT_READ | PROT_WRITE)) {
        if (any_ours(start, end)) {
            forget(start, end);
            result = linux_protect(start, end, prot);
        }
    } else {
        struct region *region = find(start, access != AK_PAGE_WRITE);
        if (region && access != AK_PAGE_WRITE && region->protections < OFTEN)
            region->protections++;
        bool often = region && region->protections == OFTEN;
        if (often || any_ours(start, end))
            result = protect(start, end, prot, access, often);
    }
    ak_spin_unlock(&lock);
    return result;
}

// ---- Other calls --------------------------------------------------------------------------------

int64_t gc_map(void *address, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd,
               int64_t offset)
{
    uint64_t start, end;
    int64_t result = AK_FALLBACK;
    if (!is_range(address, size, &start, &end))
        return AK_FALLBACK;
    ak_spin_lock(&lock);
    if (any_ours(start, end)) {
        give_back(start, end); // should Linux refuse
        result = ak_linux(__NR_mmap, start, size, prot, flags, fd, (uint64_t)offset);
    }
    ak_spin_unlock(&lock);
    return result;
}

int64_t gc_unmap(void *address, uint64_t size)
{
    uint64_t start, end;
    int64_t result = AK_FALLBACK;
    if (!is_range(address, size, &start, &end))
        return AK_FALLBACK;
    ak_spin_lock(&lock);
    if (any_ours(start, end)) {
        forget(start, end);
        result = ak_linux(__NR_munmap, start, size, 0, 0, 0, 0);
    }
    ak_spin_unlock(&lock);
    return result;
}

int64_t gc_remap(void *address, uint64_t old_size, uint64_t new_size, uint64_t flags, void *to)
{
    uint64_t start, end;
    ak_spin_lock(&lock);
    if (is_range(address, old_size, &start, &end))
        give_back(start, end);
    if (flags & MREMAP_FIXED && is_range(to, new_size, &start, &end))
        give_back(start, end);
    ak_spin_unlock(&lock);
    return AK_FALLBACK;
}

int64_t gc_break(void *to)
{
    ak_spin_lock(&lock);
    if (owned) {
        uint64_t now = (uint64_t)ak_linux(__NR_brk, 0, 0, 0, 0, 0, 0);
        uint64_t start = ((uint64_t)to + PAGE - 1) & -(uint64_t)PAGE;
        if (now < MAP_TOP && start < now)
            give_back(start, (now + PAGE - 1) & -(uint64_t)PAGE);
    }
    ak_spin_unlock(&lock);
    return AK_FALLBACK;
}

int64_t gc_tell(const void *address, uint64_t size)
{
    uint64_t start, end;
    if (!is_range((const void *)((uint64_t)address & -(uint64_t)PAGE),
                  size + (uint64_t)address % PAGE, &start, &end))
        return AK_FALLBACK;
    ak_spin_lock(&lock);
    if (size < GC_ALL)
        give_back(start, end);
    else
        for (unsigned i = 0; i < SLOTS && owned; i++)
            if (slots[i].start)
                give_back(slots[i].start, slots[i].start + REGION);
    ak_spin_unlock(&lock);
    return AK_FALLBACK;
}

bool gc_is_harmless(int advice)
{
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_COLLAPSE:
        return true;
    default:
        return false;
    }
}
