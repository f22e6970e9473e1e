// The memory of a machine for a native program: where what lies, page tables, windows. Executed by
// whoever starts the program: multiverse-core from outside, or the program's own first code where
// there is nobody else.
#ifndef MV_NATIVE_LAYOUT_H
#define MV_NATIVE_LAYOUT_H

#include "abi/boot.h"
#include "aerokernel/paging.h"
#include "base/types.h"

// A part of the program's image.
struct nl_segment {
    uint64_t start, size; // physical, which is virtual; bytes
    unsigned access;      // enum ak_access
};

struct nl_plan {
    const struct mv_native *program;
    const struct nl_segment *segment;
    unsigned segments;
    struct mv_boot_range memory[MV_BOOT_RANGES]; // all of it, in whole pages, in order
    unsigned ranges;
    uint64_t start; // from here on memory is free, but for what follows: behind image and modules
    unsigned cpus;  // at most MV_NATIVE_CPUS_MAX
    uint64_t doorbell;                // physical address without memory; 0: none
    const char *command_line;         // copied
    char *(*host)(uint64_t physical); // how memory is reached by the caller
};

struct nl_layout {
    struct ak_memory memory; // what page tables and windows are made of
    struct ak_paging paging;
    struct mv_boot *boot; // as the caller sees it
    uint64_t boot_at;     // as the program does
    char *idt;
    char *tables[MV_NATIVE_CPUS_MAX]; // GDT and TSS, as the caller sees them
    char *frame[MV_NATIVE_CPUS_MAX];
    uint64_t stack[MV_NATIVE_CPUS_MAX]; // top of each virtual CPU's first stack
    uint64_t guard[MV_NATIVE_CPUS_MAX]; // the page below it
};

// Lay it all out. ret->boot lacks what is not memory: ring, xcr0, clock. The IDT is empty yet.
// Returns 0, or -ENOMEM if there is too little memory behind the image.
int nl_make(const struct nl_plan *plan, struct nl_layout *ret);

// Fill the IDT for programs at a ring.
void nl_fill_idt(const struct nl_layout *layout, const struct mv_native *program, unsigned ring);

#endif
