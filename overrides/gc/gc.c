#include "gc.h"

#include <aerokernel/page.h>
#include <aerokernel/sync.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/personality.h>
#include <linux/stat.h>

#include "flights.h"

enum {
    PAGE = 4096,
    PAGES = 512, // of a region
    WORD = 64,
    WORDS = PAGES / WORD,
    // That bounds the page tables, too, which are never given up: 16 MiB.
    REGIONS = 1 << 12,
    PLACES = 2 * REGIONS, // of the hash table
    OFTEN = 8,            // that often a region is protected before its pages become ours
};
#define REGION ((uint64_t)PAGES * PAGE)
#define MAP_TOP (1ULL << 47)

// 2 MiB of the address space in which something has been protected.
struct region {
    uint64_t start;
    uint64_t ours[WORDS]; // by page; what the program may do there is below
    uint64_t readable[WORDS], writable[WORDS];
    unsigned protections;
};

// What a page is. The first three are enum ak_page_access.
enum state { NONE, READ, WRITE, THEIRS };

static struct ak_spin lock; // of all below
static struct known {
    struct region region[REGIONS];
    uint16_t place[PLACES]; // open addressing: 1 + the index of a region, or 0
    struct {
        char empty; // a path
        struct statx stat;
    } own;                 // for calls that we make
} *known;                  // in memory of its own
static unsigned used;      // regions
static unsigned calls;     // that take rights away, up to OFTEN
static uint64_t owned;     // pages that are ours
static uint64_t forbidden; // ... and not writable
static bool checked, stopped;

// ---- Regions; with the lock held ----------------------------------------------------------------

// The region of an address, or NULL: not known, or, with `make`, no room.
static struct region *find(uint64_t address, bool make)
{
    uint64_t start = address & -REGION;
    if (!known)
        return NULL;
    unsigned i = (unsigned)((start / REGION * 0x9e3779b97f4a7c15) >> 32) % PLACES;
    for (; known->place[i]; i = (i + 1) % PLACES)
        if (known->region[known->place[i] - 1].start == start)
            return &known->region[known->place[i] - 1];
    if (!make || used == REGIONS)
        return NULL;
    struct region *region = &known->region[used++];
    region->start = start;
    known->place[i] = (uint16_t)used;
    return region;
}

static enum state state_of(const struct region *region, uint64_t address)
{
    unsigned page = (unsigned)(address % REGION / PAGE);
    uint64_t bit = 1ULL << page % WORD;
    if (!region || !(region->ours[page / WORD] & bit))
        return THEIRS;
    return region->writable[page / WORD] & bit   ? WRITE
           : region->readable[page / WORD] & bit ? READ
                                                 : NONE;
}

static void set(uint64_t *words, unsigned page, bool on)
{
    uint64_t bit = 1ULL << page % WORD;
    words[page / WORD] = on ? words[page / WORD] | bit : words[page / WORD] & ~bit;
}

// Pages whose regions are known, unless they become THEIRS.
static void set_state(uint64_t start, uint64_t end, enum state state)
{
    struct region *region = NULL;
    for (uint64_t at = start; at < end; at += PAGE) {
        if (at == start || at % REGION == 0)
            region = find(at, false);
        if (!region) {
            at = (at & -REGION) + REGION - PAGE;
            continue;
        }
        unsigned page = (unsigned)(at % REGION / PAGE);
        enum state before = state_of(region, at);
        owned += (state != THEIRS) - (uint64_t)(before != THEIRS);
        forbidden += (state < WRITE) - (uint64_t)(before < WRITE);
        set(region->ours, page, state != THEIRS);
        set(region->readable, page, state == READ);
        set(region->writable, page, state == WRITE);
    }
}

static bool alike(enum state a, enum state b, bool owner)
{
    return owner ? (a == THEIRS) == (b == THEIRS) : a == b;
}

// The end of the pages from `at` on that are in the same state, or, with `owner`, are all ours or
// all theirs.
static uint64_t run_end(uint64_t at, uint64_t end, bool owner, enum state *ret)
{
    struct region *region = find(at, false);
    *ret = state_of(region, at);
    while (at < end && alike(state_of(region, at), *ret, owner)) {
        at = region ? at + PAGE : (at & -REGION) + REGION;
        if (at % REGION == 0)
            region = find(at, false);
    }
    return at < end ? at : end;
}

// The whole pages that a range touches, if it is one that a program can have mapped.
static bool pages_of(uint64_t address, uint64_t size, uint64_t *start, uint64_t *end)
{
    *start = address & -(uint64_t)PAGE;
    *end = (address + size + PAGE - 1) & -(uint64_t)PAGE;
    return size && size < MAP_TOP && address < MAP_TOP && *end <= MAP_TOP;
}

// ---- Back to Linux; with the lock held ----------------------------------------------------------

// What is forbidden in a range Linux forbids from now on. All else that is ours there stays so,
// unless it is to become Linux's, too.
static void give_back_range(uint64_t start, uint64_t end, bool all)
{
    enum state state;
    for (uint64_t at = start, next; at < end; at = next) {
        next = run_end(at, end, false, &state);
        bool gone =
            state < WRITE && !ak_page_release((void *)at, next - at, (enum ak_page_access)state);
        if (gone || (state == WRITE && all))
            set_state(at, next, THEIRS);
    }
}

static void give_back(uint64_t start, uint64_t end, bool all)
{
    if (!(all ? owned : forbidden))
        return;
    if (end - start <= REGIONS * REGION) {
        give_back_range(start, end, all);
        return;
    }
    for (unsigned i = 0; i < used; i++) {
        uint64_t from = known->region[i].start, to = from + REGION;
        from = from < start ? start : from;
        to = to > end ? end : to;
        if (from < to)
            give_back_range(from, to, all);
    }
}

static void give_all_back(void)
{
    if (!owned)
        return;
    give_back(0, MAP_TOP, true);
    for (unsigned i = 0; i < used; i++)
        known->region[i].protections = 0;
}

void gc_stop(void)
{
    ak_spin_lock(&lock);
    give_all_back();
    stopped = true;
    ak_spin_unlock(&lock);
}

// ---- Descriptors; with the lock held ------------------------------------------------------------

enum { DESCRIPTORS = 1024 };
static uint64_t telling_nothing[DESCRIPTORS / WORD]; // those that are known for it

// Files of /proc have no size, and a device without a driver. To ask so waits for no server.
bool gc_tells(unsigned fd)
{
    if (!known || (fd < DESCRIPTORS && telling_nothing[fd / WORD] >> fd % WORD & 1))
        return false;
    const struct statx *stat = &known->own.stat;
    if (ak_linux(__NR_statx, fd, (uint64_t)&known->own.empty, AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                 STATX_TYPE | STATX_SIZE, (uint64_t)stat, 0))
        return true;
    bool file = S_ISREG(stat->stx_mode) || S_ISDIR(stat->stx_mode);
    if (file && !stat->stx_size && !stat->stx_dev_major)
        return true;
    if (fd < DESCRIPTORS)
        telling_nothing[fd / WORD] |= 1ULL << fd % WORD;
    return false;
}

void gc_forget_descriptors(void)
{
    ak_spin_lock(&lock);
    for (unsigned i = 0; i < DESCRIPTORS / WORD; i++)
        telling_nothing[i] = 0;
    ak_spin_unlock(&lock);
}

// ---- Calls that Linux executes ------------------------------------------------------------------

static bool is_on(void)
{
    if (!checked) {
        stopped = !ak_page_editable();
        checked = true;
    }
    return !stopped;
}

struct flight *gc_begin(void)
{
    const struct ak_identity *me = ak_identity();
    if (__atomic_load_n(&stopped, __ATOMIC_RELAXED))
        return NULL;
    ak_spin_lock(&lock);
    if (is_on() && me && me->cpu < FLIGHTS) {
        flights[me->cpu].count = 0;
        return &flights[me->cpu];
    }
    give_all_back();
    stopped = true;
    ak_spin_unlock(&lock);
    return NULL;
}

void gc_end(void)
{
    ak_spin_unlock(&lock);
}

void gc_uses(struct flight *flight, uint64_t address, uint64_t size)
{
    uint64_t start, end;
    size = size < MAP_TOP ? size : MAP_TOP - PAGE; // Linux takes a part of it
    if (address < MAP_TOP && size > MAP_TOP - address)
        size = MAP_TOP - address;
    if (!pages_of(address, size, &start, &end))
        return;
    flight_add(flight, start, end);
    give_back(start, end, false);
}

void gc_uses_any(struct flight *flight)
{
    flight_add(flight, 0, MAP_TOP);
    give_all_back();
}

static void changes(struct flight *flight, uint64_t address, uint64_t size)
{
    uint64_t start, end;
    if (!pages_of(address, size, &start, &end))
        return;
    flight_add(flight, start, end);
    give_back(start, end, true);
}

void gc_change(const void *address, uint64_t size, const void *also, uint64_t also_size)
{
    struct flight *flight = gc_begin();
    if (!flight)
        return;
    changes(flight, (uint64_t)address, size);
    changes(flight, (uint64_t)also, also_size);
    gc_end();
}

void gc_change_any(void)
{
    struct flight *flight = gc_begin();
    if (!flight)
        return;
    gc_uses_any(flight);
    gc_end();
}

void gc_break(const void *to)
{
    struct flight *flight = gc_begin();
    if (!flight)
        return;
    uint64_t now = owned ? (uint64_t)ak_linux(__NR_brk, 0, 0, 0, 0, 0, 0) : 0;
    if (now < MAP_TOP && (uint64_t)to < now)
        changes(flight, (uint64_t)to, now - (uint64_t)to);
    gc_end();
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

// ---- Protection; with the lock held -------------------------------------------------------------

// When rights have been taken away often enough for the first time. Returns false, for good, if
// the set can do nothing here.
static bool begin(void)
{
    enum { ASK = 0xffffffff };
    if (known)
        return true;
    int64_t at = AK_FALLBACK, persona = ak_linux(__NR_personality, ASK, 0, 0, 0, 0, 0);
    if (persona >= 0 && !(persona & READ_IMPLIES_EXEC))
        at = ak_linux(__NR_mmap, 0, sizeof(*known), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0);
    stopped = at < 0;
    known = stopped ? NULL : (struct known *)at;
    return !stopped;
}

// What Linux has just protected becomes ours, if there is room. Returns false if not.
static bool take(uint64_t start, uint64_t end, uint64_t prot, enum state state)
{
    for (uint64_t at = start; at < end; at = (at & -REGION) + REGION)
        if (!find(at, true))
            return false;
    if (ak_page_adopt((void *)start, end - start, (enum ak_page_access)state)) {
        // Its protection may be anything by now.
        ak_linux(__NR_mprotect, start, end - start, prot, 0, 0, 0);
        return false;
    }
    set_state(start, end, state);
    return true;
}

static int64_t protect_run(uint64_t start, uint64_t end, bool ours, bool busy, uint64_t prot,
                           enum state state)
{
    void *at = (void *)start;
    uint64_t size = end - start;
    if (!ours)
        return ak_linux(__NR_mprotect, start, size, prot, 0, 0, 0);
    if (!busy && !ak_page_protect(at, size, (enum ak_page_access)state)) {
        set_state(start, end, state);
        return 0;
    }
    int64_t err = ak_page_release(at, size, (enum ak_page_access)state);
    if (!err)
        set_state(start, end, THEIRS);
    return err;
}

// Protect pages; what is theirs becomes ours, if `taking`, and if no call under way elsewhere may
// access it.
static int64_t protect(const struct flight *own, uint64_t start, uint64_t end, uint64_t prot,
                       enum state to, bool *taking)
{
    int64_t err = 0;
    enum state state;
    for (uint64_t at = start, next; !err && at < end; at = next) {
        bool busy = false;
        next = run_end(at, end, true, &state);
        if (to != WRITE)
            next = flights_end(own, at, next, &busy);
        err = protect_run(at, next, state != THEIRS, busy, prot, to);
        if (!err && state == THEIRS && !busy && *taking)
            *taking = take(at, next, prot, to);
    }
    return err;
}

int64_t gc_protect(void *address, uint64_t size, uint64_t prot)
{
    uint64_t start, end;
    int64_t result = AK_FALLBACK;
    enum state to = prot == PROT_NONE                  ? NONE
                    : prot == PROT_READ                ? READ
                    : prot == (PROT_READ | PROT_WRITE) ? WRITE
                                                       : THEIRS;
    struct flight *flight = gc_begin();
    if (!flight)
        return AK_FALLBACK;
    bool whole = (uint64_t)address % PAGE == 0 && pages_of((uint64_t)address, size, &start, &end);
    if (whole && to < WRITE && calls < OFTEN)
        calls++;
    if (!whole || calls < OFTEN || !begin()) {
        changes(flight, (uint64_t)address,
                size); // the ROS may have forgotten it when Linux refuses
        gc_end();
        return AK_FALLBACK;
    }
    if (to == THEIRS || end - start > REGIONS / 2 * REGION) {
        changes(flight, start, end - start);
    } else {
        struct region *region = find(start, to != WRITE);
        bool taking = region && to != WRITE && ++region->protections >= OFTEN;
        bool before = taking;
        enum state state;
        if (taking || run_end(start, end, true, &state) < end || state != THEIRS)
            result = protect(flight, start, end, prot, to, &taking);
        if (before && !taking)
            region->protections = 0;
    }
    gc_end();
    return result;
}
