// The heap of brk(2). Linux's break is never below the program's: what is above that stays mapped
// for when it rises again.

static struct {
    uint64_t start, now, limit; // the program's break and Linux's; 0: nobody has asked yet
    uint64_t top;               // above it everything is zero
    bool changed;               // parts of it are mapped in other ways: it is Linux's alone
} heap;
// A heap of this size gets huge pages, and then Linux's break is a multiple of them.
#define HEAP_LARGE (4 * HUGE_PAGE)

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
    uint64_t end = block_up(to), first = page_up(heap.limit);
    if (to - heap.start < HEAP_LARGE || linux_break(end) != end)
        end = linux_break(to) == to ? to : 0;
    if (end && end != to) {
        advise(first, end, MADV_HUGEPAGE);
        give_back_idle(end - first);
        make_present(block_up(first), end);
    }
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
    if (to < heap.start || (to < heap.now && heap.limit - to > ak_memory_high()))
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
