// What the measuring programs share: the clocks and the way a result is printed.
//
// Each program measures one thing inside itself, so that starting a process is no part of the
// figure, and prints lines "NAME VALUE...": one line with the value in the unit that the name ends
// in, or samples in cycles of the time-stamp counter.
#pragma once

#include <stdint.h>
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

// The time-stamp counter, when all that comes before has been done and nothing that comes after
// has begun.
static inline uint64_t now_cycles(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return low | (uint64_t)high << 32;
}

// How a round trip is sampled: after WARM_UP of them, each of `singles` by itself between two
// readings of the counter, then `batches` of A_BATCH each, whose readings are no part of the
// figure.
enum { WARM_UP = 1000, A_BATCH = 100 };

struct sampling {
    long singles, batches;
};

// The round trips that round_trips() makes.
static inline long count_round_trips(const struct sampling *how)
{
    return WARM_UP + how->singles + how->batches * A_BATCH;
}

static inline void print_cycles(const char *name, const double *samples, long count)
{
    fputs(name, stdout);
    for (long i = 0; i < count; i++)
        printf(" %.1f", samples[i]);
    putchar('\n');
}

// Sample go(data) and print the lines "empty", what two readings with nothing between them are
// apart, "single" and "batch", in cycles for one round trip.
static inline void round_trips(const struct sampling *how, void (*go)(void *), void *data)
{
    long most = how->singles > how->batches ? how->singles : how->batches;
    double *samples = malloc((size_t)most * sizeof(*samples));

    if (!samples) {
        perror("malloc");
        exit(1);
    }
    for (long i = 0; i < how->singles; i++) {
        uint64_t begin = now_cycles();
        samples[i] = (double)(now_cycles() - begin);
    }
    print_cycles("empty", samples, how->singles);
    for (int i = 0; i < WARM_UP; i++)
        go(data);
    for (long i = 0; i < how->singles; i++) {
        uint64_t begin = now_cycles();
        go(data);
        samples[i] = (double)(now_cycles() - begin);
    }
    print_cycles("single", samples, how->singles);
    for (long i = 0; i < how->batches; i++) {
        uint64_t begin = now_cycles();
        for (int j = 0; j < A_BATCH; j++)
            go(data);
        samples[i] = (double)(now_cycles() - begin) / A_BATCH;
    }
    print_cycles("batch", samples, how->batches);
    free(samples);
}

// The two numbers, from 1 to a million, that end the command line of a program that samples.
// Returns 0 or -1.
static inline int read_sampling(char **words, struct sampling *ret)
{
    ret->singles = strtol(words[0], NULL, 10);
    ret->batches = strtol(words[1], NULL, 10);
    return ret->singles < 1 || ret->singles > 1000000 || ret->batches < 1 || ret->batches > 1000000
               ? -1
               : 0;
}
