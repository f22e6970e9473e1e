// A thread's mask without a C library in between, and time without a system call.
#ifndef MASKS_H
#define MASKS_H

#include "../guests/guest.h"

#include <stdatomic.h>
#include <sys/syscall.h>

static inline uint64_t mask_now(void)
{
    uint64_t mask = 0;
    NEED(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask)) == 0);
    return mask;
}

static inline void set_mask(uint64_t mask)
{
    NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask)) == 0);
}

// Long enough for a signal that is not blocked, without a system call.
static inline void pass_here(void)
{
    for (int i = 0; i < 5000000; i++)
        atomic_signal_fence(memory_order_seq_cst);
}

#endif
