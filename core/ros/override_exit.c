// A virtual CPU leaves the HRT while a module answers a system call: it has to go on where it was.
// Signals wait; memory that the module may access is merged; copies to and from the program fail as
// they do in Linux.

#include <asm/errno.h>
#include <asm/unistd.h>

#include "aerokernel/cpu.h"
#include "aerokernel/image.h"
#include "base/string.h"
#include "base/sys.h"
#include "ros/channel.h"
#include "ros/debug.h"
#include "ros/state.h"
#include "ros/trace.h"

bool ros_override_runs(const struct ros_group *group)
{
    return READ_ONCE(group->trap->word.active) == MV_TRAP_OVERRIDE;
}

bool ros_override_holds(const struct ros_group *group)
{
    return ros_override_runs(group) || READ_ONCE(group->trap->held);
}

// ---- Calls -------------------------------------------------------------------------------------

// Calls that go on somewhere else than behind themselves.
static bool is_out_of_line(uint64_t nr)
{
    switch (nr) {
    case __NR_clone:
    case __NR_clone3:
    case __NR_fork:
    case __NR_vfork:
    case __NR_execve:
    case __NR_execveat:
    case __NR_rt_sigreturn:
        return true;
    default:
        return false;
    }
}

// Make a call that begins even though a signal is on its way. One that has come already keeps all
// others blocked but those that are held (signal.c), so nothing is missed while the flags are down.
static int64_t call(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    int64_t result;
    do {
        uint32_t signal = group->signal_pending, debug = group->debug_pending;
        WRITE_ONCE(group->signal_kept, signal);
        if (signal)
            WRITE_ONCE(group->signal_pending, 0);
        if (debug)
            WRITE_ONCE(group->debug_pending, 0);
        result = ros_call(group, nr, args);
        if (signal)
            WRITE_ONCE(group->signal_pending, signal);
        WRITE_ONCE(group->signal_kept, 0);
        if (debug)
            WRITE_ONCE(group->debug_pending, debug);
    } while (result == ROS_INTERRUPTED);
    return result;
}

void ros_override_request(struct ros_group *group)
{
    struct mv_frame *frame = group->frame;
    int64_t result;
    if (ros_channel_collect(group, &result)) {
        frame->rax = (uint64_t)result;
        return;
    }
    uint64_t nr = (uint32_t)READ_ONCE(frame->rax), begin = rdtsc();
    struct ros_args args = {{frame->rdi, frame->rsi, frame->rdx, frame->r10, frame->r8, frame->r9}};
    struct ros_event event = {.kind = MV_TRACE_SYSCALL,
                              .nr = (uint32_t)nr,
                              .a = {args.a[0], args.a[1], args.a[2], args.a[3]}};
    ros_channel_left(group, nr, &args);
    event.result = is_out_of_line(nr) ? -ENOSYS : call(group, nr, &args);
    frame->rax = (uint64_t)event.result;
    ros_trace(&event, begin);
}

// ---- Accesses ----------------------------------------------------------------------------------

uint64_t ros_pushed(const struct ros_group *group, enum ros_pushed word)
{
    return *(const uint64_t *)(group->ist_page + AK_IST_BYTES - sizeof(uint64_t) * word);
}

// The module's access to `address` failed, or, with 0, one that did not say where. merged: another
// virtual CPU has merged it by now.
static void access_failed(struct ros_group *group, struct hvm_state *state, uint64_t address,
                          bool merged)
{
    const struct ak_image *image = (const struct ak_image *)ak_kernel_begin;
    struct kvm_regs *regs = &state->regs;
    bool copies = regs->rip == image->copy || regs->rip == image->load;
    bool again = merged || ros_merge_missing(address ? address : copies ? regs->rsi : regs->rsp);
    if (!address && copies)
        again = ros_merge_missing(regs->rdi) || again;
    if (!again && copies)
        regs->rip = image->copy_fault;
    else if (!again)
        ros_substrate_failed(group, "an override module's access to memory", address);
    ros_load_state(group, state);
}

static void page_fault(struct ros_group *group)
{
    struct hvm_state state;
    ros_read_state(group, &state, NULL);
    state.regs.rsp = ros_pushed(group, ROS_PUSHED_RSP);
    state.regs.rflags = ros_pushed(group, ROS_PUSHED_RFLAGS);
    state.regs.rip = ros_pushed(group, ROS_PUSHED_RIP);
    state.regs.rdx = ros_pushed(group, ROS_PUSHED_RDX);
    state.regs.rcx = ros_pushed(group, ROS_PUSHED_RCX);
    uint64_t address = ros_pushed(group, ROS_PUSHED_CR2),
             error = ros_pushed(group, ROS_PUSHED_ERROR);
    access_failed(group, &state, address, !(error & 1) && ros_space_translates(address));
}

static void linux_fault(struct ros_group *group)
{
    struct hvm_state state;
    ros_read_state(group, &state, NULL);
    access_failed(group, &state, 0, false);
}

// ---- All exits ---------------------------------------------------------------------------------

static void request_or_fault(struct ros_group *group, bool request)
{
    if (request)
        ros_override_request(group);
    else
        page_fault(group);
}

void ros_override_exit(struct ros_group *group, struct hvm_exit exit)
{
    uint64_t doorbell = ros_space_doorbell();
    bool known = true;
    switch (exit.kind) {
    case HVM_EXIT_STORE:
        known = exit.address == doorbell || exit.address == doorbell + AK_DOORBELL_TRAP;
        if (known)
            request_or_fault(group, exit.address == doorbell);
        break;
    case HVM_EXIT_PORT:
        known = exit.address == AK_PORT_DOORBELL || exit.address == AK_PORT_TRAP;
        if (known)
            request_or_fault(group, exit.address == AK_PORT_DOORBELL);
        break;
    case HVM_EXIT_FAULT:
        linux_fault(group);
        break;
    case HVM_EXIT_INTERRUPT:
        hvm_unkick(&group->vcpu);
        break;
    case HVM_EXIT_NOTHING:
        break;
    case HVM_EXIT_HALT:
    case HVM_EXIT_DEAD:
    case HVM_EXIT_REFUSED:
    case HVM_EXIT_FAILURE:
        known = false;
        break;
    }
    if (!known)
        ros_substrate_failed(group, "an override module", exit.address);
}
