// The program's state: found wherever the virtual CPU stands, and loaded again.

#include "ros/state.h"

#include "aerokernel/cpu.h"
#include "base/string.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/signal.h"

void ros_frame_from_regs(struct mv_frame *f, const struct kvm_regs *r)
{
    f->r15 = r->r15, f->r14 = r->r14, f->r13 = r->r13, f->r12 = r->r12;
    f->rbp = r->rbp, f->rbx = r->rbx, f->r11 = r->r11, f->r10 = r->r10;
    f->r9 = r->r9, f->r8 = r->r8, f->rax = r->rax, f->rcx = r->rcx;
    f->rdx = r->rdx, f->rsi = r->rsi, f->rdi = r->rdi;
    f->rip = r->rip, f->rflags = r->rflags, f->rsp = r->rsp;
}

static void regs_from_frame(struct kvm_regs *r, const struct mv_frame *f)
{
    r->r15 = f->r15, r->r14 = f->r14, r->r13 = f->r13, r->r12 = f->r12;
    r->rbp = f->rbp, r->rbx = f->rbx, r->r11 = f->r11, r->r10 = f->r10;
    r->r9 = f->r9, r->r8 = f->r8, r->rax = f->rax, r->rcx = f->rcx;
    r->rdx = f->rdx, r->rsi = f->rsi, r->rdi = f->rdi;
    r->rip = f->rip, r->rflags = f->rflags, r->rsp = f->rsp;
}

// What a program may have in its flags; the rest is AK_FLAGS_FIXED.
#define FLAGS_PROGRAM 0x254dd5ULL // ID AC RF NT OF DF TF SF ZF AF PF CF

enum ros_place ros_place_of(const struct ros_group *group, uint64_t rip)
{
    static const struct {
        const char *end;
        enum ros_place place;
    } parts[] = {
        {ak_call_saved, ROS_IN_CALL},     {ak_syscall_return, ROS_IN_REQUEST},
        {ak_request, ROS_IN_SYSCALL},     {ak_consumed, ROS_IN_REQUEST},
        {ak_asynchronous, ROS_IN_RESULT}, {ak_answered, ROS_IN_REQUEST},
        {ak_port, ROS_IN_ANSWER},         {ak_port + 1, ROS_IN_REQUEST},
        {ak_stamp, ROS_IN_ANSWER},        {ak_stamp_saved, ROS_IN_REQUEST},
        {ak_stamp_end, ROS_IN_STAMP},     {ak_local, ROS_IN_ANSWER},
        {ak_local_saved, ROS_IN_REQUEST}, {ak_trap_entry, ROS_IN_TRAP},
        {ak_trap_saved, ROS_IN_VECTOR},   {ak_done, ROS_IN_TRAP},
        {ak_trap_forward, ROS_IN_RESULT}, {ak_forward, ROS_IN_TRAP},
        {ak_trap_end, ROS_IN_REQUEST},
    };
    uint64_t offset = rip - group->window;
    uint64_t first = rip - AK_WINDOW(0);
    if (rip - AK_VECTOR_PAGE < PAGE_SIZE || (first >= (uint64_t)(ak_trap_entry - ak_entry_page) &&
                                             first < (uint64_t)(ak_trap_saved - ak_entry_page)))
        return ROS_IN_VECTOR; // the vector page, or the way from there to the window
    if (ros_space_is_kernel(rip))
        return READ_ONCE(group->trap->word.active) ? ROS_IN_TRAP : ROS_IN_PROGRAM;
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (offset < (uint64_t)(parts[i].end - ak_entry_page))
            return parts[i].place;
    return ROS_IN_PROGRAM;
}

uint64_t ros_gs_base(const struct ros_group *group, uint64_t program)
{
    return program || !ros.hvm.limits.fsgsbase ? program : group->window;
}

void ros_read_state(struct ros_group *group, struct hvm_state *ret, uint64_t *cr2)
{
    hvm_vcpu_get_state(&group->vcpu, ret, cr2);
    if (ret->gs_base == group->window)
        ret->gs_base = 0;
    group->fs_base = ret->fs_base;
    group->gs_base = ret->gs_base;
}

int ros_read_xsave(struct ros_group *group)
{
    if (group->xsave_place != XSAVE_IN_VCPU)
        return 0;
    int err = hvm_vcpu_get_xsave(&group->vcpu, group->xsave);
    if (!err)
        group->xsave_place = XSAVE_IN_BOTH;
    return err;
}

void ros_load_xsave(struct ros_group *group)
{
    int err = 0;
    if (group->xsave_place == XSAVE_IN_GROUP)
        err = hvm_vcpu_set_xsave(&group->vcpu, group->xsave);
    group->xsave_place = XSAVE_IN_VCPU;
    if (err)
        ros_substrate_failed(group, "loading extended state", (uint64_t)-err);
}

uint32_t ros_take_trap(struct ros_group *group)
{
    struct mv_trap *trap = group->trap;
    uint32_t active = READ_ONCE(trap->word.active);
    WRITE_ONCE(trap->word.active, MV_TRAP_NONE);
    WRITE_ONCE(trap->attention, 0);
    if (active == MV_TRAP_RESET)
        ros_reset_xsave(group);
    if (active != MV_TRAP_FAULT && active != MV_TRAP_CALL && active != MV_TRAP_DONE)
        return MV_TRAP_NONE;
    memcpy(group->frame, &trap->state, MV_FRAME_STATE_BYTES);
    return active == MV_TRAP_DONE ? MV_TRAP_NONE : active;
}

void ros_state_to_frame(struct ros_group *group, const struct kvm_regs *regs)
{
    struct mv_frame *f = group->frame;
    uint64_t rip = f->rip, rflags = f->rflags, rsp = f->rsp;
    int64_t result;
    enum ros_place place = ros_place_of(group, regs->rip);
    if (place == ROS_IN_ANSWER)
        return;
    if (place == ROS_IN_TRAP) {
        if (ros_take_trap(group) == MV_TRAP_CALL)
            f->rip -= SYSCALL_BYTES;
        return;
    }
    ros_frame_from_regs(f, regs);
    if (place == ROS_IN_PROGRAM)
        return;
    if (place == ROS_IN_STAMP) {
        f->rax = READ_ONCE(group->stamp->rax);
        f->rdx = READ_ONCE(group->stamp->rdx);
        place = ROS_IN_REQUEST;
    }
    f->rcx = place == ROS_IN_REQUEST || place == ROS_IN_RESULT ? rip : regs->rcx;
    f->rip = f->rcx;
    if ((place == ROS_IN_CALL || place == ROS_IN_SYSCALL) &&
        regs->rsp - group->window < AK_WINDOW_STRIDE)
        f->rsp = rsp; // the entry is about to push the flags, or to return to CPL 3
    if (place == ROS_IN_SYSCALL)
        f->rflags = regs->r11;
    if (place == ROS_IN_REQUEST || place == ROS_IN_RESULT)
        f->rflags = rflags;
    if (place == ROS_IN_RESULT)
        f->rsp = rsp;
    f->r11 = f->rflags;
    if (place == ROS_IN_RESULT)
        return;
    if (place == ROS_IN_REQUEST && ros_channel_collect(group, &result))
        f->rax = (uint64_t)result;
    else
        f->rip -= SYSCALL_BYTES;
}

void ros_load_state(struct ros_group *group, struct hvm_state *state)
{
    state->gs_base = ros_gs_base(group, state->gs_base);
    hvm_vcpu_set_state(&group->vcpu, ros.ring, state);
}

void ros_load_frame(struct ros_group *group, const struct mv_frame *frame)
{
    struct hvm_state state = {.fs_base = group->fs_base, .gs_base = group->gs_base};
    regs_from_frame(&state.regs, frame);
    uint64_t behind = rw_returned(state.regs.rip);
    if (behind)
        state.regs.rip = state.regs.rcx = behind;
    state.regs.rip = rw_resume_rip(state.regs.rip);
    state.regs.rflags = (state.regs.rflags & FLAGS_PROGRAM) | AK_FLAGS_FIXED;
    if (group->debug.stepping)
        state.regs.rflags |= ROS_FLAG_TF;
    ros_load_state(group, &state);
    group->resume = ROS_CONTINUE;
}
