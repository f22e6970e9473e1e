// rt_sigprocmask(2) without Linux, where signals are blocked for a moment. A C library does so as
// it makes a thread, and as a thread begins and ends.
#ifndef THREADS_H
#define THREADS_H

#include <stddef.h>
#include <stdint.h>

// May return AK_FALLBACK: Linux answers.
int64_t threads_mask(int how, const void *set, void *old, size_t size);

#endif
