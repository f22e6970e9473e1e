// A futex mutex for the core's own shared state.
#ifndef MV_BASE_LOCK_H
#define MV_BASE_LOCK_H

#include <linux/futex.h>

#include "base/sys.h"

// 0 free, 1 held, 2 held and waited for (Drepper, "Futexes Are Tricky", mutex 2).
struct mv_lock {
    uint32_t word;
};

static inline void mv_lock(struct mv_lock *lock)
{
    uint32_t seen = 0;
    if (__atomic_compare_exchange_n(&lock->word, &seen, 1, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
        sys4(__NR_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, 0);
}

static inline void mv_unlock(struct mv_lock *lock)
{
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
        sys3(__NR_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1);
}

#endif
