#include "aerokernel/paging.h"

#include <asm/errno.h>

#include "include/aerokernel/page.h"

// Intel SDM volume 3, 4.5. Accessed and dirty are set from the beginning, so that neither the
// processor nor KVM ever writes to the tables.
#define PTE_PRESENT AK_PTE_PRESENT
#define PTE_WRITE AK_PTE_WRITE
#define PTE_USER (1ULL << 2)
#define PTE_ACCESSED (1ULL << 5)
#define PTE_DIRTY (1ULL << 6)
#define PTE_LARGE AK_PTE_LARGE
#define PTE_GUARDED (1ULL << 9) // ours: Linux forbids what the entry forbids
// Entries that translate, or would if they were not guarded or claimed.
#define PTE_MAPPED (PTE_PRESENT | PTE_GUARDED | AK_PTE_CLAIMED)
#define PTE_NX (1ULL << 63)
#define PTE_ADDRESS AK_PTE_ADDRESS
#define TABLE_BITS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)
#define DATA_BITS (TABLE_BITS | PTE_DIRTY | PTE_NX)

enum { ENTRIES = 512, SHIFT_ROOT = 39, SHIFT_UPPER = 30, SHIFT_DIRECTORY = 21, SHIFT_PAGE = 12 };

void *ak_page_alloc(struct ak_memory *memory)
{
    if (memory->used == memory->size)
        return NULL;
    void *page = memory->host + memory->used;
    memory->used += PAGE_SIZE;
    return page;
}

uint64_t ak_page_gpa(const struct ak_memory *memory, const void *page)
{
    return memory->gpa + (uint64_t)((const char *)page - memory->host);
}

int ak_paging_init(struct ak_paging *paging, struct ak_memory *memory)
{
    paging->memory = memory;
    paging->root = ak_page_alloc(memory);
    return paging->root ? 0 : -ENOMEM;
}

// The table that an entry points to, or NULL: an HRT at ring 0 can write to its own tables, and
// must not lead us out of the memory they are made of.
static uint64_t *table_of(const struct ak_paging *paging, uint64_t entry)
{
    uint64_t offset = (entry & PTE_ADDRESS) - paging->memory->gpa;
    return offset < paging->memory->used ? (uint64_t *)(paging->memory->host + offset) : NULL;
}

// The entry for va at the level whose entries map 1 << shift bytes, or NULL if a level above is
// absent or ends in a leaf. With `make`, absent levels are made; NULL is then out of memory.
static uint64_t *entry_at(const struct ak_paging *paging, uint64_t va, int shift, bool make)
{
    uint64_t *table = paging->root;
    for (int s = SHIFT_ROOT; s > shift; s -= 9) {
        uint64_t *entry = &table[va >> s & (ENTRIES - 1)];
        if (!(*entry & PTE_MAPPED)) {
            void *page = make ? ak_page_alloc(paging->memory) : NULL;
            if (!page)
                return NULL;
            WRITE_ONCE(*entry, ak_page_gpa(paging->memory, page) | TABLE_BITS);
        } else if (*entry & PTE_LARGE) {
            return NULL;
        }
        table = table_of(paging, READ_ONCE(*entry));
        if (!table)
            return NULL;
    }
    return &table[va >> shift & (ENTRIES - 1)];
}

int ak_map_page(struct ak_paging *paging, uint64_t va, uint64_t gpa, unsigned access)
{
    uint64_t *entry = entry_at(paging, va, SHIFT_PAGE, true);
    if (!entry)
        return -ENOMEM;
    WRITE_ONCE(*entry, gpa | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY |
                           (access & AK_USER ? PTE_USER : 0) | (access & AK_WRITE ? PTE_WRITE : 0) |
                           (access & AK_EXECUTE ? 0 : PTE_NX));
    return 0;
}

int ak_map_window(struct ak_paging *paging, uint64_t va, uint64_t gpa, uint64_t size)
{
    for (uint64_t end = va + size; va < end;) {
        bool whole = va % LEAF_SIZE == 0 && end - va >= LEAF_SIZE;
        uint64_t step = whole ? LEAF_SIZE : PAGE_SIZE;
        uint64_t *entry = entry_at(paging, va, whole ? SHIFT_DIRECTORY : SHIFT_PAGE, true);
        if (!entry)
            return -ENOMEM;
        // To the end of this table, or of what can be mapped in such steps.
        do {
            if (!(*entry & PTE_PRESENT))
                WRITE_ONCE(*entry, gpa | DATA_BITS | (whole ? PTE_LARGE : 0));
            entry++;
            va += step;
            gpa += step;
        } while ((uint64_t)entry % PAGE_SIZE && end - va >= step && (whole || va % LEAF_SIZE));
    }
    return 0;
}

// The leaf that translates va, or would if it were not guarded; or NULL.
static uint64_t *leaf_of(const struct ak_paging *paging, uint64_t va)
{
    uint64_t *entry = entry_at(paging, va, SHIFT_DIRECTORY, false);
    if (entry && (*entry & PTE_PRESENT) && !(*entry & PTE_LARGE))
        entry = entry_at(paging, va, SHIFT_PAGE, false);
    return entry && (*entry & PTE_MAPPED) ? entry : NULL;
}

bool ak_is_executable(const struct ak_paging *paging, uint64_t va)
{
    const uint64_t *leaf = leaf_of(paging, va);
    return leaf && !(*leaf & PTE_NX);
}

bool ak_leaf(const struct ak_paging *paging, uint64_t va, uint64_t *ret)
{
    const uint64_t *leaf = leaf_of(paging, va);
    *ret = leaf ? READ_ONCE(*leaf) : 0;
    return leaf != NULL;
}

static bool forbids(const struct ak_paging *paging, uint64_t va, bool write, uint64_t why)
{
    uint64_t leaf;
    return ak_leaf(paging, va, &leaf) && (leaf & why) &&
           !(leaf & (write ? PTE_WRITE : PTE_PRESENT));
}

bool ak_is_guarded(const struct ak_paging *paging, uint64_t va, bool write)
{
    return forbids(paging, va, write, PTE_GUARDED);
}

bool ak_is_claimed(const struct ak_paging *paging, uint64_t va, bool write)
{
    return forbids(paging, va, write, AK_PTE_CLAIMED);
}

// Replace a 2 MiB leaf by a table of pages with the same translation.
static int split(struct ak_paging *paging, uint64_t *directory)
{
    uint64_t *table = ak_page_alloc(paging->memory);
    if (!table)
        return -ENOMEM;
    uint64_t leaf = *directory & ~PTE_LARGE;
#pragma GCC unroll 8 // most of a merger's time goes here
    for (uint64_t i = 0; i < ENTRIES; i++)
        table[i] = leaf + i * PAGE_SIZE;
    // Other virtual CPUs follow the entry at once: the table is there before it.
    __atomic_store_n(directory, ak_page_gpa(paging->memory, table) | TABLE_BITS, __ATOMIC_RELEASE);
    return 0;
}

// Ways to change a leaf. A large leaf that only comes to be executable in part stays large where
// nothing changes and is split otherwise; it is never executable itself.
typedef uint64_t change(uint64_t leaf);

static uint64_t allow_execute(uint64_t leaf)
{
    return leaf & ~PTE_NX;
}

static uint64_t forbid_execute(uint64_t leaf)
{
    return leaf | PTE_NX;
}

static uint64_t forbid_writes(uint64_t leaf)
{
    return leaf & ~PTE_WRITE;
}

static uint64_t guard_writes(uint64_t leaf)
{
    return (leaf & ~PTE_WRITE) | PTE_GUARDED;
}

static uint64_t guard_all(uint64_t leaf)
{
    return (leaf & ~(PTE_WRITE | PTE_PRESENT)) | PTE_GUARDED;
}

// What a claimed leaf forbids is its claim's.
static uint64_t unguarded(uint64_t leaf)
{
    if (leaf & PTE_GUARDED && !(leaf & AK_PTE_CLAIMED))
        leaf |= PTE_WRITE | PTE_PRESENT;
    return leaf & ~PTE_GUARDED;
}

static uint64_t unclaimed(uint64_t leaf)
{
    return leaf & AK_PTE_CLAIMED ? (leaf & ~AK_PTE_CLAIMED) | PTE_WRITE | PTE_PRESENT : leaf;
}

// Where the next directory may be, if that of va is absent.
static uint64_t behind_absent(const struct ak_paging *paging, uint64_t va)
{
    const uint64_t *upper = entry_at(paging, va, SHIFT_UPPER, false);
    int shift = !upper ? SHIFT_ROOT : !(*upper & PTE_MAPPED) ? SHIFT_UPPER : SHIFT_DIRECTORY;
    return ALIGN_DOWN(va, 1ULL << shift) + (1ULL << shift);
}

// Change the leaves of [va, va+size), splitting large ones of which only a part changes.
static int change_leaves(struct ak_paging *paging, uint64_t va, uint64_t size, change *to)
{
    uint64_t end = ALIGN_UP(va + size, PAGE_SIZE);
    for (va = ALIGN_DOWN(va, PAGE_SIZE); va < end;) {
        uint64_t next = MIN(end, ALIGN_DOWN(va, LEAF_SIZE) + LEAF_SIZE);
        uint64_t *directory = entry_at(paging, va, SHIFT_DIRECTORY, false);
        uint64_t old = directory ? READ_ONCE(*directory) : 0;
        if (!directory) {
            va = behind_absent(paging, va);
            continue;
        }
        if (!(old & PTE_MAPPED) || ((old & PTE_LARGE) && to(old) == old)) {
            va = next;
            continue;
        }
        if (old & PTE_LARGE) {
            if (next - va == LEAF_SIZE && (to(old) & PTE_NX)) {
                WRITE_ONCE(*directory, to(old));
                va = next;
                continue;
            }
            int err = split(paging, directory);
            if (err)
                return err;
        }
        uint64_t *table = table_of(paging, READ_ONCE(*directory));
        if (!table)
            return -EINVAL;
        for (; va < next; va += PAGE_SIZE) {
            uint64_t *entry = &table[va >> SHIFT_PAGE & (ENTRIES - 1)];
            uint64_t before = READ_ONCE(*entry);
            // The processor sets bits meanwhile, and at ring 0 the program may.
            while ((before & PTE_MAPPED) &&
                   !__atomic_compare_exchange_n(entry, &before, to(before), false, __ATOMIC_RELAXED,
                                                __ATOMIC_RELAXED))
                ;
        }
    }
    return 0;
}

int ak_allow_execute(struct ak_paging *paging, uint64_t va, uint64_t size)
{
    return change_leaves(paging, va, size, allow_execute);
}

void ak_forbid_execute(struct ak_paging *paging, uint64_t va, uint64_t size)
{
    change_leaves(paging, va, size, forbid_execute);
}

void ak_forbid_writes(struct ak_paging *paging, uint64_t va, uint64_t size)
{
    change_leaves(paging, va, size, forbid_writes);
}

int ak_split(struct ak_paging *paging, uint64_t va, uint64_t size)
{
    for (uint64_t end = va + size; va < end; va = ALIGN_DOWN(va, LEAF_SIZE) + LEAF_SIZE) {
        uint64_t *directory = entry_at(paging, va, SHIFT_DIRECTORY, false);
        if (!directory || !(*directory & PTE_MAPPED))
            return -EINVAL;
        int err = *directory & PTE_LARGE ? split(paging, directory) : 0;
        if (err)
            return err;
    }
    return 0;
}

uint64_t *ak_page_leaf(const struct ak_paging *paging, uint64_t va)
{
    uint64_t *entry = entry_at(paging, va, SHIFT_DIRECTORY, false);
    if (!entry || !(*entry & PTE_PRESENT) || (*entry & PTE_LARGE))
        return NULL;
    entry = entry_at(paging, va, SHIFT_PAGE, false);
    return entry && (*entry & PTE_MAPPED) ? entry : NULL;
}

int ak_guard(struct ak_paging *paging, uint64_t va, uint64_t size, bool reads)
{
    return change_leaves(paging, va, size, reads ? guard_all : guard_writes);
}

int ak_unguard(struct ak_paging *paging, uint64_t va, uint64_t size)
{
    return change_leaves(paging, va, size, unguarded);
}

void ak_unclaim(struct ak_paging *paging, uint64_t va, uint64_t size)
{
    change_leaves(paging, va, size, unclaimed); // only pages are claimed: nothing is split
}

static bool is_prepared(const struct ak_paging *paging, uint64_t va, uint64_t size)
{
    for (uint64_t at = va; at < va + size; at += PAGE_SIZE)
        if (!ak_page_leaf(paging, at))
            return false;
    return true;
}

static uint64_t with_access(uint64_t entry, unsigned access)
{
    entry &= ~(AK_PTE_PRESENT | AK_PTE_WRITE | AK_PTE_CLAIMED);
    if (access == AK_PAGE_WRITE)
        return entry | AK_PTE_PRESENT | AK_PTE_WRITE;
    return entry | AK_PTE_CLAIMED | (access == AK_PAGE_READ ? AK_PTE_PRESENT : 0);
}

int ak_claim(struct ak_paging *paging, uint64_t va, uint64_t size, unsigned access,
             ak_changed *changed, bool *less)
{
    if (!is_prepared(paging, va, size))
        return -EINVAL;
    for (uint64_t at = va; at < va + size; at += PAGE_SIZE) {
        uint64_t *entry = ak_page_leaf(paging, at);
        if (!entry)
            return -EINVAL;
        uint64_t before = READ_ONCE(*entry), after;
        do
            after = with_access(before, access);
        while (!__atomic_compare_exchange_n(entry, &before, after, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED));
        if (before != after && changed)
            changed(at);
        *less = *less || (before & ~after & (AK_PTE_PRESENT | AK_PTE_WRITE));
    }
    return 0;
}

long ak_count(struct ak_paging *paging, uint64_t va, uint64_t size, uint64_t bits, bool clear,
              ak_changed *changed, bool *less)
{
    long count = 0;
    if (!is_prepared(paging, va, size))
        return -EINVAL;
    for (uint64_t at = va; at < va + size; at += PAGE_SIZE) {
        uint64_t *entry = ak_page_leaf(paging, at);
        if (!entry)
            return -EINVAL;
        uint64_t before = READ_ONCE(*entry);
        if (clear && (before & bits)) {
            before = __atomic_fetch_and(entry, ~bits, __ATOMIC_RELAXED);
            if (changed)
                changed(at);
            *less = true;
        }
        count += (before & bits) == bits;
    }
    return count;
}
