// What the substrate's events cost, measured on a virtual CPU before the program has it.

#include <asm/errno.h>

#include "aerokernel/cpu.h"
#include "base/string.h"
#include "ros/ros.h"

// Whatever disturbs a measurement makes it longer: the shortest of some counts.
enum { KIND_ROUNDS = 3, EXIT_ROUNDS = 5 };

// Run to the next exit. Returns the TSC cycles that it took, or ~0 if it is not of this kind.
static uint64_t run_to(struct ros_group *group, enum hvm_exit_kind kind)
{
    uint64_t begin = rdtsc();
    struct hvm_exit exit;
    do // the process may be stopped and continued meanwhile
        exit = hvm_vcpu_run(&group->vcpu);
    while (exit.kind == HVM_EXIT_INTERRUPT);
    return exit.kind == kind ? rdtsc() - begin : ~0ULL;
}

static uint64_t entry_label(const struct ros_group *group, const char *label)
{
    return group->window + (uint64_t)(label - ak_entry_page);
}

int ros_measure_kind(struct ros_group *group, bool *interpreted, uint64_t *cpl0_cycles)
{
    struct hvm_state state = {.regs.rflags = AK_FLAGS_FIXED};
    state.regs.rip = entry_label(group, ak_probe);
    uint64_t loop = ~0ULL, bare = ~0ULL;
    // First the loop, then from behind it to the HLT: an exit with next to nothing executed.
    for (int round = 0; round < KIND_ROUNDS; round++) {
        hvm_vcpu_set_state(&group->vcpu, 0, &state);
        uint64_t port = run_to(group, HVM_EXIT_PORT), halt = run_to(group, HVM_EXIT_HALT);
        if (port == ~0ULL || halt == ~0ULL)
            return -EIO;
        loop = MIN(loop, port);
        bare = MIN(bare, halt);
    }
    uint64_t instructions = loop > bare ? loop - bare : 0;
    *cpl0_cycles = MAX(instructions / (AK_PROBE_LOOPS * 2), 1ULL);
    // Where instructions are executed, so few of them are nothing beside an exit, and where they
    // are interpreted, many times one: on a processor as in an emulator.
    *interpreted = instructions > bare;
    return 0;
}

int ros_measure_exit(struct ros_group *group, uint64_t *cycles)
{
    const char *doorbell = ros.ring ? ak_doorbell : ak_port;
    struct hvm_state state = {.regs.rip = entry_label(group, doorbell),
                              .regs.rflags = AK_FLAGS_FIXED};
    struct mv_frame *frame = group->frame;
    frame->rip = state.regs.rip; // so that each answer leads to the next request
    frame->rflags = AK_FLAGS_FIXED;
    frame->rsp = 0;
    *cycles = ~0ULL;
    hvm_vcpu_set_state(&group->vcpu, ros.ring, &state);
    for (int round = 0; round < EXIT_ROUNDS; round++) {
        uint64_t took = run_to(group, ros.ring ? HVM_EXIT_STORE : HVM_EXIT_PORT);
        if (took == ~0ULL)
            return -EIO;
        *cycles = MIN(*cycles, took);
    }
    return 0;
}
