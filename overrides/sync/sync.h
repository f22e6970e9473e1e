// futex(2) between the threads of a process: who waits looks for a short time, in the HRT, whether
// somebody wakes it, and who wakes reaches it through memory. Linux is asked only where somebody
// waits, or has to wait, longer.
#ifndef SYNC_H
#define SYNC_H

#include <stdint.h>

// May return AK_FALLBACK: Linux answers.
int64_t sync_futex(uint32_t *word, int operation, uint32_t value, const void *timeout,
                   uint32_t *other, uint32_t bits);

#endif
