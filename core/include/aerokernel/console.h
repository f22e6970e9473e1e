/// @file
/// The AeroKernel's console: standard error of the process; of a native program, the standard
/// output of `multiverse kernel run`, or the serial port.
#ifndef AEROKERNEL_CONSOLE_H
#define AEROKERNEL_CONSOLE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Write bytes as they are.
void ak_console_write(const void *bytes, size_t size);
/// Write a line of text with %s %c %d %u %x %% and %ld %lu %lx; the newline is added.
void ak_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif

#endif
