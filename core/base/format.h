// Formatting, for the core and for the AeroKernel.
#ifndef MV_BASE_FORMAT_H
#define MV_BASE_FORMAT_H

#include <stdarg.h>

#include "base/types.h"

// Format into buf, always terminated. Knows %s %c %d %u %x %% and %ld %lu %lx.
// Returns the length written, at most size - 1.
size_t mv_vformat(char *buf, size_t size, const char *fmt, va_list ap);
size_t mv_format(char *buf, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
