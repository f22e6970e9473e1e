// A buddy allocator for pages, and over it a slab allocator for objects with a cache for each
// virtual CPU. Arenas come from the platform and stay.

#include "include/aerokernel/memory.h"

#include "aerokernel/kernel.h"
#include "base/string.h"

// An arena's first pages hold what is known of it, so it is twice the largest block. It may be
// smaller: its pages have the numbers that they would have in a whole one.
_Static_assert(AK_ARENA_BYTES == PAGE_SIZE * 2ULL << AK_ORDER_MAX, "platform.h");
enum { ARENAS_MAX = 256, SMALLEST_SHIFT = 4 };
// The largest object that comes from a slab.
#define SMALL_MAX (1ULL << (SMALLEST_SHIFT + AK_CACHE_CLASSES - 1))

enum kind { PAGE_TAIL, PAGE_FREE, PAGE_USED, PAGE_SLAB };

// What is known of a block by its first page, of a tail: in which slab it is.
struct page {
    uint8_t kind, order, class;
    uint16_t used;           // objects that are handed out, those in caches included
    void *free;              // objects that are not, linked through their first word
    struct page *next, **at; // in the list of free blocks of the order, or slabs with room
    struct page *head;       // of a tail of a slab
};

struct arena {
    char *base;          // where a whole one would begin
    uint64_t first, end; // numbers of its pages
    struct page *page;   // in these: what is known of all of them, of `first` at 0
};

static struct {
    struct ak_spin lock;
    unsigned count;
    struct arena arena[ARENAS_MAX];
    struct page *free[AK_ORDER_MAX + 1];
    struct page *slabs[AK_CACHE_CLASSES]; // that have free objects
    uint64_t bytes, used_bytes;
} memory;

// ---- Blocks; with the lock held -----------------------------------------------------------------

static void list_add(struct page **list, struct page *page)
{
    page->next = *list;
    page->at = list;
    if (*list)
        (*list)->at = &page->next;
    *list = page;
}

static void list_remove(struct page *page)
{
    *page->at = page->next;
    if (page->next)
        page->next->at = page->at;
    page->at = NULL;
}

static const struct arena *arena_of(const void *address)
{
    unsigned count = __atomic_load_n(&memory.count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < count; i++) {
        const struct arena *arena = &memory.arena[i];
        uint64_t number = ((uint64_t)address - (uint64_t)arena->base) / PAGE_SIZE;
        if (number >= arena->first && number < arena->end)
            return arena;
    }
    return NULL;
}

static struct page *page_of(const struct arena *arena, const void *address)
{
    return &arena->page[((uint64_t)address - (uint64_t)arena->base) / PAGE_SIZE - arena->first];
}

static const struct arena *arena_of_page(const struct page *page)
{
    for (unsigned i = 0; i < memory.count; i++) {
        const struct arena *arena = &memory.arena[i];
        uint64_t bytes = (arena->end - arena->first) * sizeof(*page);
        if ((uint64_t)page - (uint64_t)arena->page < bytes)
            return arena;
    }
    return NULL;
}

static void *address_of(const struct page *page)
{
    const struct arena *arena = arena_of_page(page);
    return arena->base + (arena->first + (uint64_t)(page - arena->page)) * PAGE_SIZE;
}

static void free_block(const struct arena *arena, struct page *page, unsigned order)
{
    uint64_t number = arena->first + (uint64_t)(page - arena->page);
    while (order < AK_ORDER_MAX) {
        uint64_t other = number ^ 1ULL << order;
        if (other < arena->first || other >= arena->end)
            break;
        struct page *buddy = &arena->page[other - arena->first];
        if (buddy->kind != PAGE_FREE || buddy->order != order)
            break;
        list_remove(buddy);
        buddy->kind = PAGE_TAIL;
        number &= ~(1ULL << order);
        order++;
    }
    page = &arena->page[number - arena->first];
    page->kind = PAGE_FREE;
    page->order = (uint8_t)order;
    list_add(&memory.free[order], page);
}

static bool add_arena(void)
{
    unsigned index = memory.count;
    uint64_t start, size;
    if (index == ARENAS_MAX || !ak_platform_memory(&start, &size))
        return false;
    struct arena *arena = &memory.arena[index];
    uint64_t base = ALIGN_DOWN(start, AK_ARENA_BYTES), first = (start - base) / PAGE_SIZE;
    *arena = (struct arena){.base = (char *)base,
                            .first = first,
                            .end = first + size / PAGE_SIZE,
                            .page = (struct page *)start};
    memory.bytes += size;
    __atomic_store_n(&memory.count, index + 1, __ATOMIC_RELEASE); // read without the lock, too
    // What is left, in the largest blocks that are aligned to their size.
    uint64_t own = ALIGN_UP(size / PAGE_SIZE * sizeof(struct page), PAGE_SIZE) / PAGE_SIZE;
    for (uint64_t at = first + own; at < arena->end;) {
        unsigned order = MIN((unsigned)__builtin_ctzll(at), AK_ORDER_MAX);
        while (at + (1ULL << order) > arena->end)
            order--;
        free_block(arena, &arena->page[at - first], order);
        at += 1ULL << order;
    }
    return true;
}

static struct page *take_block(unsigned order)
{
    unsigned from = order;
    for (;;) {
        while (from <= AK_ORDER_MAX && !memory.free[from])
            from++;
        if (from <= AK_ORDER_MAX)
            break;
        if (!add_arena())
            return NULL;
        from = order;
    }
    struct page *page = memory.free[from];
    list_remove(page);
    while (from > order) {
        from--;
        struct page *upper = page + (1ULL << from);
        upper->kind = PAGE_FREE;
        upper->order = (uint8_t)from;
        list_add(&memory.free[from], upper);
    }
    page->kind = PAGE_USED;
    page->order = (uint8_t)order;
    memory.used_bytes += PAGE_SIZE << order;
    return page;
}

static void give_block(struct page *page)
{
    memory.used_bytes -= PAGE_SIZE << page->order;
    free_block(arena_of_page(page), page, page->order);
}

void *ak_pages_alloc(unsigned order)
{
    if (order > AK_ORDER_MAX)
        return NULL;
    ak_spin_lock(&memory.lock);
    struct page *page = take_block(order);
    void *pages = page ? address_of(page) : NULL;
    ak_spin_unlock(&memory.lock);
    return pages;
}

void ak_pages_free(void *pages)
{
    ak_spin_lock(&memory.lock);
    const struct arena *arena = arena_of(pages);
    struct page *page = arena ? page_of(arena, pages) : NULL;
    if (page && page->kind == PAGE_USED)
        give_block(page);
    ak_spin_unlock(&memory.lock);
}

void ak_memory_info(struct ak_memory_info *ret)
{
    ak_spin_lock(&memory.lock);
    ret->arena_bytes = memory.bytes;
    ret->used_bytes = memory.used_bytes;
    ak_spin_unlock(&memory.lock);
}

// ---- Objects ------------------------------------------------------------------------------------

static unsigned class_of(size_t size)
{
    unsigned class = 0;
    while (1ULL << (SMALLEST_SHIFT + class) < size)
        class ++;
    return class;
}

// Slabs of small objects are one page, of larger ones as many as hold eight.
static unsigned slab_order(unsigned class)
{
    unsigned order = 0;
    while (PAGE_SIZE << order < 8ULL << (SMALLEST_SHIFT + class))
        order++;
    return order;
}

static bool add_slab(unsigned class)
{
    unsigned order = slab_order(class);
    struct page *slab = take_block(order);
    if (!slab)
        return false;
    uint64_t size = 1ULL << (SMALLEST_SHIFT + class);
    char *base = address_of(slab);
    slab->kind = PAGE_SLAB;
    slab->class = (uint8_t) class;
    slab->used = 0;
    slab->free = NULL;
    for (uint64_t i = 1; i < 1ULL << order; i++) {
        slab[i].kind = PAGE_TAIL;
        slab[i].head = slab;
    }
    for (uint64_t at = PAGE_SIZE << order; at > 0; at -= size) {
        void **object = (void **)(base + at - size);
        *object = slab->free;
        slab->free = object;
    }
    list_add(&memory.slabs[class], slab);
    return true;
}

// Fill a cache by half.
static void refill(struct ak_local *cpu, unsigned class)
{
    ak_spin_lock(&memory.lock);
    while (cpu->cache[class].count < AK_CACHE_OBJECTS / 2) {
        if (!memory.slabs[class] && !add_slab(class))
            break;
        struct page *slab = memory.slabs[class];
        void **object = slab->free;
        slab->free = *object;
        slab->used++;
        if (!slab->free)
            list_remove(slab);
        cpu->cache[class].object[cpu->cache[class].count++] = object;
    }
    ak_spin_unlock(&memory.lock);
}

static struct page *slab_of(const void *object)
{
    const struct arena *arena = arena_of(object);
    struct page *page = arena ? page_of(arena, object) : NULL;
    if (page && page->kind == PAGE_TAIL)
        page = page->head;
    return page && (page->kind == PAGE_SLAB || page->kind == PAGE_USED) ? page : NULL;
}

// Empty a cache by half.
static void drain(struct ak_local *cpu, unsigned class)
{
    ak_spin_lock(&memory.lock);
    while (cpu->cache[class].count > AK_CACHE_OBJECTS / 2) {
        void **object = cpu->cache[class].object[--cpu->cache[class].count];
        struct page *slab = slab_of(object);
        if (!slab->free)
            list_add(&memory.slabs[class], slab);
        *object = slab->free;
        slab->free = object;
        if (--slab->used)
            continue;
        list_remove(slab);
        for (uint64_t i = 1; i < 1ULL << slab->order; i++)
            slab[i].head = NULL;
        give_block(slab);
    }
    ak_spin_unlock(&memory.lock);
}

void *ak_alloc(size_t size)
{
    if (size > SMALL_MAX) {
        unsigned order = 0;
        while (order <= AK_ORDER_MAX && PAGE_SIZE << order < size)
            order++;
        return ak_pages_alloc(order);
    }
    struct ak_local *cpu = ak_local();
    unsigned class = class_of(size);
    if (!cpu->cache[class].count)
        refill(cpu, class);
    if (!cpu->cache[class].count)
        return NULL;
    return cpu->cache[class].object[--cpu->cache[class].count];
}

void *ak_zalloc(size_t size)
{
    void *object = ak_alloc(size);
    return object ? memset(object, 0, size) : NULL;
}

void ak_free(void *object)
{
    struct page *page = object ? slab_of(object) : NULL;
    if (!page)
        return;
    if (page->kind == PAGE_USED) {
        ak_pages_free(object);
        return;
    }
    struct ak_local *cpu = ak_local();
    unsigned class = page->class;
    if (cpu->cache[class].count == AK_CACHE_OBJECTS)
        drain(cpu, class);
    cpu->cache[class].object[cpu->cache[class].count++] = object;
}

size_t ak_alloc_size(const void *object)
{
    const struct page *page = slab_of(object);
    if (!page)
        return 0;
    return page->kind == PAGE_USED ? PAGE_SIZE << page->order
                                   : 1ULL << (SMALLEST_SHIFT + page->class);
}
