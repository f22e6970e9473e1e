// A thread that waits is in a list, found by the word's address, from before Linux or itself may
// find it waiting until its next call of futex(2). While it looks, it is HERE: it can be woken
// through memory. When it gives that up it becomes AWAY: it is about to wait in Linux, does so, or
// has done so; which, nobody sees. Whoever wakes while a thread is AWAY asks Linux, too.
//
// No wake-up is lost: a waiter compares the word while it holds the list's lock, and whoever wakes
// has changed the word before, and takes the lock. So either the waiter sees the change, or it is
// found. One that is AWAY but does not wait in Linux yet has its word compared by Linux, after it
// has become AWAY. To Linux, a thread that is HERE has not come yet; so whatever else Linux does
// about the same word, for other operations, is right, too.

#include "sync.h"

#include <aerokernel/cpu.h>
#include <aerokernel/override.h>
#include <aerokernel/sync.h>
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/time_types.h>

enum {
    LISTS = 256,
    SLEEP_CYCLES = 20000, // what sleeping and waking take in Linux, about
    SHORT_NS = 100000,    // timeouts that are not worth looking first
    PATIENCE_EXITS = 5,
    FAILED_MAX = 4,  // looks in vain after which only
    PROBE = 16,      // one of so many waits looks, until one is not in vain
    PASSES_MAX = 16, // wakes in a row by which the first who waits in Linux may be passed over
    REST = 1000,     // times patience() for which nobody looks after one has lost the core
    NSEC_PER_SEC = 1000000000,
};

struct waiter {
    enum place { NOWHERE, HERE, AWAY } place;
    uint64_t word;
    struct list *list;
    struct waiter *before, *next;
} __attribute__((aligned(64)));

struct list {
    struct ak_spin lock;
    bool unseen; // Linux may have waiters for these words that are not in the list
    unsigned passes;
    unsigned failed;  // looks in vain, less those that were not
    unsigned refused; // waits without a look because of that
    struct waiter *first, *last;
} __attribute__((aligned(64)));

static struct list lists[LISTS];           // by address
static struct waiter waiters[AK_CPUS_MAX]; // by virtual CPU
static unsigned looking;                   // waiters that are HERE
static uint64_t rest_till;                 // TSC before which nobody looks

static struct list *list_of(const uint32_t *word)
{
    return &lists[((uint64_t)word >> 2) * 0x9e3779b97f4a7c15 >> 56];
}
_Static_assert(LISTS == 1 << (64 - 56), "list_of()");

// ---- Lists; with the lock held ------------------------------------------------------------------

static void append(struct list *list, struct waiter *waiter, const uint32_t *word, enum place place)
{
    *waiter =
        (struct waiter){.place = place, .word = (uint64_t)word, .list = list, .before = list->last};
    if (list->last)
        list->last->next = waiter;
    else
        list->first = waiter;
    list->last = waiter;
}

static void take_out(struct waiter *waiter)
{
    struct list *list = waiter->list;
    if (waiter->before)
        waiter->before->next = waiter->next;
    else
        list->first = waiter->next;
    if (waiter->next)
        waiter->next->before = waiter->before;
    else
        list->last = waiter->before;
    if (waiter->place == HERE)
        __atomic_sub_fetch(&looking, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&waiter->place, NOWHERE, __ATOMIC_RELEASE); // it may go on at once
}

// ---- Waiting ------------------------------------------------------------------------------------

// For how long to look. One that Linux has woken is back after two or three exits; who waits for it
// must look for longer, or the two never meet in the HRT.
static int64_t patience(void)
{
    return PATIENCE_EXITS * (int64_t)ak_exit_cycles() + SLEEP_CYCLES;
}

// Whether a waiter may look first: if there is a core for it beside the one that shall wake it, if
// nobody else wants that core, as far as is known, and if looking has not been in vain too often
// for these words. With the lock held.
static bool may_look(struct list *list)
{
    if (__builtin_ia32_rdtsc() < __atomic_load_n(&rest_till, __ATOMIC_RELAXED))
        return false;
    unsigned count = __atomic_load_n(&looking, __ATOMIC_RELAXED), cores = ak_cores();
    bool pays = list->failed < FAILED_MAX || ++list->refused % PROBE == 0;
    do {
        if (!pays || count + 1 >= cores)
            return false;
    } while (!__atomic_compare_exchange_n(&looking, &count, count + 1, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

// Threads race here; it is an estimate.
static void account(struct list *list, bool success)
{
    unsigned failed = __atomic_load_n(&list->failed, __ATOMIC_RELAXED);
    if (!success && failed < FAILED_MAX)
        __atomic_store_n(&list->failed, failed + 1, __ATOMIC_RELAXED);
    if (success && failed)
        __atomic_store_n(&list->failed, failed - 1, __ATOMIC_RELAXED);
}

static bool is_woken(const struct waiter *me)
{
    return __atomic_load_n(&me->place, __ATOMIC_ACQUIRE) == NOWHERE;
}

static int64_t look(struct waiter *me, const uint32_t *word, uint32_t value)
{
    struct list *list = me->list;
    uint64_t begin = __builtin_ia32_rdtsc();
    int64_t time = 0, step = 0, result = 0;
    uint32_t now;
    while (!is_woken(me) && time < patience()) {
        __builtin_ia32_pause();
        step = (int64_t)(__builtin_ia32_rdtsc() - begin) - time;
        time += step;
    }
    // Others have had the core meanwhile. Who sleeps in Linux gets it sooner when it is woken than
    // who has been put aside while it looked, for whom all the others may be waiting.
    if (step > patience())
        __atomic_store_n(&rest_till, begin + (uint64_t)(time + REST * patience()),
                         __ATOMIC_RELAXED);
    if (!is_woken(me)) {
        ak_spin_lock(&list->lock);
        if (!is_woken(me) && ak_load_in(&now, word) == 0 && now != value) {
            take_out(me);
            result = -EAGAIN;
        } else if (!is_woken(me)) {
            __atomic_sub_fetch(&looking, 1, __ATOMIC_RELAXED);
            me->place = AWAY;
            result = AK_FALLBACK;
        }
        ak_spin_unlock(&list->lock);
    }
    account(list, result != AK_FALLBACK);
    return result;
}

// Linux shall have the calling thread wait for a word, or refuse.
static int64_t go_away(struct waiter *me, const uint32_t *word)
{
    struct list *list = list_of(word);
    ak_spin_lock(&list->lock);
    append(list, me, word, AWAY);
    ak_spin_unlock(&list->lock);
    return AK_FALLBACK;
}

// True if Linux takes a timeout, and, where it begins now, it is not a short one.
static bool is_worth_looking(const void *timeout, bool absolute)
{
    struct __kernel_timespec time;
    if (!timeout)
        return true;
    return ak_copy_in(&time, timeout, sizeof(time)) == 0 && time.tv_sec >= 0 && time.tv_nsec >= 0 &&
           time.tv_nsec < NSEC_PER_SEC && (absolute || time.tv_sec || time.tv_nsec > SHORT_NS);
}

static int64_t wait(struct waiter *me, const uint32_t *word, uint32_t value, const void *timeout,
                    bool absolute)
{
    uint32_t now;
    // What is wrong with it Linux says best. What the word's page needs to be there it gets here,
    // not under the lock.
    if ((uint64_t)word % sizeof(*word) || !is_worth_looking(timeout, absolute) ||
        ak_load_in(&now, word))
        return go_away(me, word);
    struct list *list = list_of(word);
    ak_spin_lock(&list->lock);
    int64_t result = ak_load_in(&now, word) == 0 && now != value ? -EAGAIN : AK_FALLBACK;
    bool looks = result == AK_FALLBACK && may_look(list);
    if (result == AK_FALLBACK)
        append(list, me, word, looks ? HERE : AWAY);
    ak_spin_unlock(&list->lock);
    return looks ? look(me, word, value) : result;
}

// ---- Waking -------------------------------------------------------------------------------------

static int64_t linux_wake(uint32_t *word, int64_t count)
{
    int64_t woken =
        ak_linux(__NR_futex, (uint64_t)word, FUTEX_WAKE_PRIVATE, (uint64_t)count, 0, 0, 0);
    return woken > 0 ? woken : 0;
}

// Wake up to `count` waiters that are HERE. Sets *away if there may be some in Linux. With the lock
// held.
static int64_t wake_here(struct list *list, const uint32_t *word, int64_t count, bool *away)
{
    int64_t woken = 0;
    struct waiter *next;
    for (struct waiter *waiter = list->first; waiter; waiter = next) {
        next = waiter->next;
        if (waiter->word != (uint64_t)word)
            continue;
        if (waiter->place == AWAY) {
            *away = true;
        } else if (woken < count) {
            take_out(waiter);
            woken++;
        }
    }
    return woken;
}

static int64_t wake(uint32_t *word, int32_t count)
{
    if ((uint64_t)word % sizeof(*word) || (uint64_t)word >= AK_PROGRAM_END || count <= 0)
        return AK_FALLBACK;
    struct list *list = list_of(word);
    int64_t first = 0;
    // Those who look are woken at a fraction of the cost, but not for ever before the others.
    if (__atomic_load_n(&list->passes, __ATOMIC_RELAXED) >= PASSES_MAX) {
        __atomic_store_n(&list->passes, 0, __ATOMIC_RELAXED);
        first = linux_wake(word, count);
    }
    ak_spin_lock(&list->lock);
    bool away = list->unseen || ak_unseen_waits();
    int64_t woken = first + wake_here(list, word, count - first, &away);
    list->passes = away && woken > first ? list->passes + 1 : 0;
    ak_spin_unlock(&list->lock);
    if (woken == count || !away)
        return woken;
    return woken ? woken + linux_wake(word, count - woken) : AK_FALLBACK;
}

// ---- The call -----------------------------------------------------------------------------------

static void mark_unseen(const uint32_t *word)
{
    struct list *list = list_of(word);
    ak_spin_lock(&list->lock);
    list->unseen = true;
    ak_spin_unlock(&list->lock);
}

int64_t sync_futex(uint32_t *word, int operation, uint32_t value, const void *timeout,
                   uint32_t *other, uint32_t bits)
{
    struct waiter *me = &waiters[ak_identity()->cpu]; // there always is one in a system call
    if (me->place == AWAY) {
        ak_spin_lock(&me->list->lock);
        take_out(me);
        ak_spin_unlock(&me->list->lock);
    }
    // Who waits for a word shared with other processes is another one's, even at the same address.
    if (!(operation & FUTEX_PRIVATE_FLAG))
        return AK_FALLBACK;
    bool any = bits == FUTEX_BITSET_MATCH_ANY, clock = operation & FUTEX_CLOCK_REALTIME;
    switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
        return clock ? go_away(me, word) : wait(me, word, value, timeout, false);
    case FUTEX_WAIT_BITSET:
        return any ? wait(me, word, value, timeout, true) : go_away(me, word);
    case FUTEX_WAKE:
        return clock ? AK_FALLBACK : wake(word, (int32_t)value);
    case FUTEX_WAKE_BITSET:
        return any && !clock ? wake(word, (int32_t)value) : AK_FALLBACK;
    case FUTEX_WAKE_OP:
        return AK_FALLBACK;
    default: // Linux may have threads wait for either word that have not called for that
        mark_unseen(word);
        mark_unseen(other);
        return AK_FALLBACK;
    }
}
