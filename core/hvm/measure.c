#include <asm/errno.h>

#include "abi/frame.h"
#include "hvm/hvm.h"

// Whatever disturbs a measurement makes it longer: the shortest of some counts, of more if these do
// not tell clearly.
enum { KIND_ROUNDS = 3, KIND_ROUNDS_MAX = 20, CLEARLY = 2 };

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
    uint64_t loop = ~0ULL, bare = ~0ULL, instructions = 0;
    bool clear = false;
    // First the loop, then from behind it to the HLT: an exit with next to nothing executed.
    for (int round = 0; round < KIND_ROUNDS || (!clear && round < KIND_ROUNDS_MAX); round++) {
        hvm_vcpu_set_state(vcpu, 0, &state);
        uint64_t port = hvm_measure_run(vcpu, HVM_EXIT_PORT),
                 halt = hvm_measure_run(vcpu, HVM_EXIT_HALT);
        if (port == ~0ULL || halt == ~0ULL)
            return -EIO;
        loop = MIN(loop, port);
        bare = MIN(bare, halt);
        instructions = loop > bare ? loop - bare : 0;
        clear = instructions > bare * CLEARLY || instructions < bare / CLEARLY;
    }
    *cpl0_cycles = MAX(instructions / (AK_PROBE_LOOPS * 2), 1ULL);
    // Where instructions are executed, so few of them are nothing beside an exit, and where they
    // are interpreted, many times one: on a processor as in an emulator.
    *interpreted = instructions > bare;
    return 0;
}
