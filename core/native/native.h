// What the files of a native program's own AeroKernel share.
#ifndef MV_NATIVE_NATIVE_H
#define MV_NATIVE_NATIVE_H

#include "abi/boot.h"
#include "aerokernel/kernel.h"
#include "base/types.h"

// What the program was started with.
extern struct mv_boot *ak_boot;

// What this program says of itself (start.c).
extern const struct mv_native ak_native_head;

// What vectors.S leaves on an interrupt stack.
struct ak_trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rbx, rax;
    uint64_t cr2, rdx, rcx;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

// End all with a status. text: what a report says, words of key=value; empty for a mere exit.
_Noreturn void ak_native_end(int status, const char *text, size_t size);

// The hardware of a PC, where nobody answers a doorbell (pc.c).

// Stop until an interrupt, at most ns nanoseconds; unless *asleep is no longer 1.
void ak_pc_sleep(const uint32_t *asleep, uint64_t ns);
// Interrupt another virtual CPU's sleep.
void ak_pc_wake(unsigned cpu);
void ak_pc_write(const char *bytes, size_t size);
_Noreturn void ak_pc_end(int status, const char *text, size_t size);
// Have all other virtual CPUs forget all translations.
void ak_pc_drop(void);
// An interrupt has arrived, which may be one of ours. Returns false for others.
bool ak_pc_interrupt(unsigned vector);

#endif
