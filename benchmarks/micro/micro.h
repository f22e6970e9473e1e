// What the measuring programs share: the clock and the way a result is printed.
//
// Each program measures one thing inside itself, so that starting a process is no part of the
// figure, and prints one line "NAME VALUE" with the value in the unit that the name ends in.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// The monotonic clock in nanoseconds. It comes from the vdso, natively and in an HRT, so reading it
// is no system call.
static inline double now_ns(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_MONOTONIC, &t)) {
        perror("clock_gettime");
        exit(1);
    }
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
