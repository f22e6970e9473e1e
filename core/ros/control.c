// What a program at ring 0 can set the virtual CPU's control registers to so that nothing can go
// on: it ends with a report.

#include "base/string.h"
#include "rewrite/rewrite.h"
#include "ros/ros.h"

#define CR4_SMEP (1ULL << 20)
#define EFER_SCE (1ULL << 0)

void ros_control_check(struct ros_group *group, const struct hvm_state *state)
{
    struct hvm_control control;
    if (ros.ring) // it can load none, nor write to page tables
        return;
    const uint64_t used[] = {state->regs.rip, AK_IDT_PAGE, group->window + AK_IST_OFFSET};
    for (unsigned i = 0; i < ARRAY_SIZE(used); i++)
        if (!ros_space_has_tables(state->cr3, used[i]))
            ros_substrate_failed(group, "page tables where no memory is", state->cr3);
    hvm_vcpu_get_control(&group->vcpu, &control);
    // The program's pages are a user's, and so is the entry page: the first fetch faults, and that
    // fault's way in turn, for ever.
    if (control.cr4 & CR4_SMEP)
        ros_substrate_failed(group, "no page can be executed: CR4.SMEP", control.cr4);
}

bool ros_is_syscall(uint64_t rip)
{
    enum { PREFIXES_MAX = 15 - SYSCALL_BYTES };
    static const uint8_t syscall[SYSCALL_BYTES] = {0x0f, 0x05};
    uint8_t code[SYSCALL_BYTES];
    for (unsigned i = 0; i < PREFIXES_MAX && !ros_copy_in(code, rip, 1) && rw_is_prefix(code[0]);
         i++)
        rip++;
    return ros_copy_in(code, rip, sizeof(code)) == 0 && memcmp(code, syscall, sizeof(code)) == 0;
}

void ros_control_check_syscall(struct ros_group *group, uint64_t rip)
{
    struct hvm_control control;
    if (ros.ring)
        return;
    hvm_vcpu_get_control(&group->vcpu, &control);
    if (!(control.efer & EFER_SCE) && ros_is_syscall(rip))
        ros_substrate_failed(group, "SYSCALL is switched off: EFER", control.efer);
}
