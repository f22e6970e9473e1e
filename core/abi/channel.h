// The synchronous event channel: how the HRT asks the ROS for a system call without leaving the
// virtual machine. Also read by assembly. docs/channel.md has the protocol and why it is safe.
#ifndef MV_ABI_CHANNEL_H
#define MV_ABI_CHANNEL_H

// The slot lies in the frame page of a virtual CPU's window, on a cache line of its own.
#define AK_SLOT_OFFSET 0x1400
#define MV_SLOT_STATE 0
#define MV_SLOT_NR 4
#define MV_SLOT_ARGS 8
#define MV_SLOT_RESULT 8
#define MV_SLOT_SITE 56

// Behind it, what the HRT says of each system call while a profile is made (struct mv_stamp).
#define AK_STAMP_OFFSET 0x1440
#define MV_STAMP_TSC 0
#define MV_STAMP_RBP 8
#define MV_STAMP_RAX 16
#define MV_STAMP_RDX 24

// Values of mv_slot.state.
#define MV_SLOT_FREE 0     // nothing is asked; written by the HRT, or by the partner
#define MV_SLOT_POSTED 1   // a request is complete; written by the HRT
#define MV_SLOT_ANSWERED 2 // `result` is there; written by a poller
#define MV_SLOT_REFUSED 3  // the call has to go the asynchronous way; written by a poller

// The control page: common to all virtual CPUs, read-only for them.
#define AK_CONTROL_PAGE (AK_BASE + 0x3000)
#define MV_CONTROL_OPEN 0
#define MV_CONTROL_SPINS 4
#define MV_CONTROL_STAMP 12
#define MV_CONTROL_ROUTES 64
#define MV_ROUTES 512

// Bits of mv_control.route.
#define MV_ROUTE_POLLER 1 // a poller may be able to answer
#define MV_ROUTE_LOCAL 2  // the AeroKernel may be able to answer, and comes first
#define MV_ROUTE_MODULE 4 // with MV_ROUTE_LOCAL: it is an override module that answers

#ifndef __ASSEMBLER__
#include <stdint.h>

#include "abi/machine.h"

// One request and its answer: exactly one cache line, the only memory that a call moves between
// cores. The HRT writes all of it but the answer; the ROS side copies it once and believes nothing.
struct mv_slot {
    uint32_t state;
    uint32_t nr; // the system call's number
    union {
        uint64_t arg[6];
        int64_t result; // overwrites the first argument
    };
    uint64_t site; // address behind the SYSCALL instruction, if it trapped to get here; else 0
};

// When a system call was made, and the frame pointer there, which a request does not hold.
struct mv_stamp {
    uint64_t tsc;
    uint64_t rbp;
    uint64_t rax, rdx; // the program's, while RDTSC has them
};

// What the ROS side tells all virtual CPUs.
struct mv_control {
    uint32_t open;   // a poller is looking at the slots now; 0: ask the asynchronous way
    uint32_t spins;  // turns of the HRT's waiting loop before it gives a request up
    uint32_t closed; // no override may begin
    uint32_t stamp;  // not 0: say when a system call is made
    uint8_t padding[MV_CONTROL_ROUTES - 16];
    uint8_t route[MV_ROUTES]; // MV_ROUTE_*, by system call; 0: the asynchronous way
    struct mv_machine machine;
};
#endif

#endif
