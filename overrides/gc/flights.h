// Calls under way: what memory Linux may access for a thread at this moment. Another thread that
// takes rights away there has to tell Linux. A call's end is not seen, so a flight lasts until the
// virtual CPU's next call that is looked at. With gc.c's lock held.
#ifndef GC_FLIGHTS_H
#define GC_FLIGHTS_H

#include <stdbool.h>
#include <stdint.h>

enum { FLIGHTS = 64, FLIGHT_RANGES = 5 };

struct flight {
    unsigned count;
    struct flight_range {
        uint64_t start, end;
    } range[FLIGHT_RANGES];
};

static struct flight flights[FLIGHTS]; // by virtual CPU; with more of them the set stops

// When there is no more room the last range grows.
static inline void flight_add(struct flight *flight, uint64_t start, uint64_t end)
{
    if (flight->count < FLIGHT_RANGES) {
        flight->range[flight->count++] = (struct flight_range){start, end};
        return;
    }
    struct flight_range *last = &flight->range[FLIGHT_RANGES - 1];
    last->start = start < last->start ? start : last->start;
    last->end = end > last->end ? end : last->end;
}

// Whether another flight than `own` is at an address, and up to where, before `end`, at least.
static inline uint64_t flights_end(const struct flight *own, uint64_t at, uint64_t end, bool *busy)
{
    *busy = false;
    for (unsigned i = 0; i < FLIGHTS; i++)
        for (unsigned j = 0; &flights[i] != own && j < flights[i].count; j++) {
            const struct flight_range *range = &flights[i].range[j];
            bool here = range->start <= at && at < range->end;
            uint64_t limit = here ? range->end : range->start;
            *busy = *busy || here;
            if (limit > at && limit < end)
                end = limit;
        }
    return end;
}

// What calls.c uses of gc.c.

// Begin with a call, and end it: between them the lock is held. gc_begin() returns the caller's
// flight, without ranges, or NULL, without the lock, when everything is Linux's for good.
struct flight *gc_begin(void);
void gc_end(void);
// Linux may access a range, or anything, for the call.
void gc_uses(struct flight *flight, uint64_t address, uint64_t size);
void gc_uses_any(struct flight *flight);
// True if what is read from a descriptor may tell how memory is protected, as /proc/self/maps does.
bool gc_tells(unsigned fd);
#endif
