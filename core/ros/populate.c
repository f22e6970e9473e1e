// Pages that the program is about to touch, made present ahead.
//
// The first touch of a page costs the HRT what it costs natively, and a fault of the virtual
// machine besides; but KVM maps several pages a fault if Linux has them already. So memory that the
// program asks for is populated at once, if the program is one that uses what it asks for.
//
// That is learned from what it does: in each mapping one page is left alone, the witness. If it is
// there when the mapping goes, or when another of about the same size is made, the program has got
// that far. Sizes that have not been used before are not populated (but small ones), nor are more
// than a few mappings whose witnesses have not been seen yet: a program that reserves much and uses
// little does not grow by much.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/mman.h>

#include "ros/ros.h"
#include "ros/trace.h"

// A smaller mapping is touched in a few faults; a larger one would hold up the caller for long.
#define POPULATE_MIN KIB(32)
#define POPULATE_MAX MIB(32)
// A larger data segment may hold much that no run of the program writes to.
#define DATA_MAX MIB(2)

enum {
    CLASSES = 5,     // of sizes: each up to four times as large as the one before
    GUESSED = 2,     // the first classes, which are populated before anything has been seen
    PENDING = 4,     // mappings of a class whose witnesses are still looked for
    UNCONFIRMED = 2, // of these, populated ones
    TRUST_MAX = 3,
    NODE_SHIFT = 12, // in group->cpu_node
};

struct mapping {
    uint64_t witness; // 0: none
    bool populated;
};

// All under the lock of the space.
static struct size_class {
    struct mapping pending[PENDING];
    unsigned next;
    unsigned trust; // what was used adds to it, what was not takes away; at 0 nothing is populated
} classes[CLASSES];
static uint64_t size_max;

void ros_populate_init(bool on, uint64_t ram)
{
    enum { PART = 256 };
    size_max = on ? MIN(POPULATE_MAX, ram / PART) : 0;
    for (unsigned i = 0; i < GUESSED; i++)
        classes[i].trust = 1;
}

static struct size_class *class_of(uint64_t size)
{
    unsigned i = 0;
    while (i < CLASSES - 1 && size >= POPULATE_MIN << 2 * (i + 1))
        i++;
    return &classes[i];
}

static bool is_present(uint64_t page)
{
    unsigned char present = 0;
    return sys3(__NR_mincore, page, PAGE_SIZE, &present) == 0 && (present & 1);
}

// A mapping's end, or that of our interest in it. used: its witness is present.
static void settle(struct size_class *class, struct mapping *m, bool used)
{
    if (used && class->trust < TRUST_MAX)
        class->trust++;
    if (!used && class->trust > 0)
        class->trust--;
    m->witness = 0;
}

// Learn from earlier mappings of the class, and remember this one. Returns whether to populate it.
static bool expect_use(struct size_class *class, uint64_t witness)
{
    unsigned unconfirmed = 0;
    for (unsigned i = 0; i < PENDING; i++) {
        struct mapping *m = &class->pending[i];
        if (m->witness && is_present(m->witness))
            settle(class, m, true);
        unconfirmed += m->witness && m->populated;
    }
    struct mapping *m = &class->pending[class->next++ % PENDING];
    if (m->witness) {
        unconfirmed -= m->populated;
        settle(class, m, false); // it has just been looked for
    }
    *m = (struct mapping){witness, class->trust > 0 && unconfirmed < UNCONFIRMED};
    return m->populated;
}

static bool is_on_node(const struct ros_group *group)
{
    return ros_cpu_node() >> NODE_SHIFT == group->cpu_node >> NODE_SHIFT;
}

static void populate(uint64_t start, uint64_t end)
{
    long err = sys3(__NR_madvise, start, end - start, MADV_POPULATE_WRITE);
    if (err == -EINVAL)
        ros_populate_end(); // a Linux before 5.14
    if (!err && ros_stats())
        ros_stats_add(&ros_stats()->populated, end - start);
}

void ros_populate(const struct ros_group *group, uint64_t nr, uint64_t start, uint64_t end)
{
    start = ALIGN_UP(start, PAGE_SIZE), end = ALIGN_DOWN(end, PAGE_SIZE);
    uint64_t size = start < end ? end - start : 0;
    bool wanted = size >= POPULATE_MIN && size <= READ_ONCE(size_max);
    // A module that answers this call may be about to ask for huge pages.
    if (!wanted || ros_override_answers((unsigned)nr) || !is_on_node(group))
        return;
    // Neither the first page, where many put a header, nor the last, which may be spare.
    uint64_t witness = start + ALIGN_DOWN(size / 4 * 3, PAGE_SIZE);
    ros_space_lock();
    bool expected = expect_use(class_of(size), witness);
    ros_space_unlock();
    if (!expected)
        return;
    populate(start, witness);
    populate(witness + PAGE_SIZE, end);
}

void ros_populate_data(const struct ros_group *group, uint64_t start, uint64_t size)
{
    uint64_t end = ALIGN_UP(start + size, PAGE_SIZE);
    start = ALIGN_DOWN(start, PAGE_SIZE);
    if (READ_ONCE(size_max) && start < end && end - start <= DATA_MAX && is_on_node(group))
        populate(start, end);
}

void ros_populate_end(void)
{
    WRITE_ONCE(size_max, 0);
}

void ros_populate_forget(uint64_t start, uint64_t size)
{
    for (unsigned c = 0; c < CLASSES; c++)
        for (unsigned i = 0; i < PENDING; i++) {
            struct mapping *m = &classes[c].pending[i];
            if (m->witness - start < size)
                settle(&classes[c], m, is_present(m->witness));
        }
}
