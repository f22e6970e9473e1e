// What an exit costs, measured on a virtual CPU before the program has it.

#include <asm/errno.h>

#include "aerokernel/cpu.h"
#include "base/string.h"
#include "ros/ros.h"

// Whatever disturbs a measurement makes it longer: the shortest of some counts.
enum { EXIT_ROUNDS = 5 };

static uint64_t entry_label(const struct ros_group *group, const char *label)
{
    return group->window + (uint64_t)(label - ak_entry_page);
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
        uint64_t took = hvm_measure_run(&group->vcpu, ros.ring ? HVM_EXIT_STORE : HVM_EXIT_PORT);
        if (took == ~0ULL)
            return -EIO;
        *cycles = MIN(*cycles, took);
    }
    return 0;
}
