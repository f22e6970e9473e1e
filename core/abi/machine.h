// What the AeroKernel is told of the machine it runs on, whoever made that machine.
#ifndef MV_ABI_MACHINE_H
#define MV_ABI_MACHINE_H

#include <stdint.h>

struct mv_machine {
    uint64_t tsc_hz, ns_per_tick; // of the time-stamp counter; ns as a 32.32 fixed-point number
    struct {
        uint64_t root, memory, memory_size; // physical: root table; memory that tables are made of
        uint64_t view;                      // virtual: where that memory is seen
    } tables;
    uint32_t cpus;         // virtual CPUs that have been made
    uint64_t memory_limit; // bytes that the AeroKernel may take for its allocators; 0: no limit
    uint64_t memory_high;  // bytes that override modules may keep of what the program has freed
    uint64_t vdso;         // where Linux has put its vDSO, for override modules; 0: there is none
    uint64_t exit_cycles;  // TSC cycles that leaving the HRT and coming back takes
    uint32_t cores;        // CPUs that the program may run on, as it was at the start
    uint32_t unseen_waits; // not 0: Linux may have waiters on futexes that modules do not know of
    uint32_t defers_masks; // not 0: the HRT may keep to itself what a thread blocks, for a while
};

#endif
