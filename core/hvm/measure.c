#include <asm/errno.h>

#include "abi/frame.h"
#include "hvm/hvm.h"

// Cycles an instruction, at CPL 0: a processor takes one or so, an emulator of one ten, and where
// KVM interprets, two thousand.
enum { INTERPRETED_CYCLES = 300 };

uint64_t hvm_measure_run(struct hvm_vcpu *vcpu, enum hvm_exit_kind kind)
{
    uint64_t begin = rdtsc();
    struct hvm_exit exit;
    do // the process may be stopped and continued meanwhile
        exit = hvm_vcpu_run(vcpu);
    while (exit.kind == HVM_EXIT_INTERRUPT);
    return exit.kind == kind ? rdtsc() - begin : ~0ULL;
}

int hvm_measure_kind(struct hvm_vcpu *vcpu, uint64_t probe, bool *interpreted,
                     uint64_t *cpl0_cycles)
{
    struct hvm_state state = {.regs.rip = probe, .regs.rflags = AK_FLAGS_FIXED};
    hvm_vcpu_set_state(vcpu, 0, &state);
    if (hvm_measure_run(vcpu, HVM_EXIT_PORT) == ~0ULL)
        return -EIO;
    hvm_vcpu_get_state(vcpu, &state, NULL);
    // Taken in the guest, where the time is too short to be disturbed in each of some rounds.
    *cpl0_cycles = MAX(state.regs.rdi / (AK_PROBE_LOOPS * 2), 1ULL);
    *interpreted = *cpl0_cycles > INTERPRETED_CYCLES;
    return 0;
}
