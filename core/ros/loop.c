// The partner's loop: run the virtual CPU, answer its events.

#include <asm/errno.h>

#include "aerokernel/cpu.h"
#include "base/print.h"
#include "base/string.h"
#include "base/sys.h"
#include "hvm/details.h"
#include "include/aerokernel/override.h"
#include "rewrite/maps.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/crash.h"
#include "ros/debug.h"
#include "ros/profile.h"
#include "ros/signal.h"
#include "ros/state.h"
#include "ros/trace.h"

enum { VECTOR_DB = 1, VECTOR_BP = 3, VECTOR_UD = 6, VECTOR_GP = 13, VECTOR_PF = 14 };
// Of a page fault's error code.
enum { ERROR_PRESENT = 1, ERROR_WRITE = 2, ERROR_USER = 4, ERROR_FETCH = 16 };

_Noreturn void ros_substrate_failed(struct ros_group *group, const char *what, uint64_t detail)
{
    ros_stats_finish();
    ros_crash(group, what, detail);
}

static void raise_or_go_on(struct ros_group *group, int sig, const struct ros_signal *signal)
{
    group->resume = ROS_LOAD;
    if (sig)
        ros_signal_force(group, signal);
}

// True if the AeroKernel itself has to see such a fault, since the program may have a handler
// there, and will if the instruction is tried again: the guard had not been set when Linux refused
// it.
static bool is_guarded_by_now(const struct ros_signal *signal)
{
    if (!ros_space_is_attached() || signal->info.si_signo != SIGSEGV ||
        signal->info.si_code != SEGV_ACCERR)
        return false;
    return ros_space_is_guarded((uint64_t)signal->info.si_addr, signal->error & ERROR_WRITE);
}

// The program's next instruction could not be executed in the HRT: Linux does it, or says why not.
static void replicate(struct ros_group *group)
{
    struct ros_signal signal;
    uint64_t rip = group->frame->rip, begin = rdtsc();
    uint64_t rewritten = rw_trapped(rip);
    if (rewritten) { // what Linux would find there is not the program's
        group->frame->rip = rewritten;
        return;
    }
    if (ros_debug_breakpoint(group) || ros_is_syscall(rip)) // by now: it is not Linux's
        return;
    int sig = ros_replicate(group, &signal);
    ros_trace(&(struct ros_event){.kind = MV_TRACE_REPLICATION, .result = sig, .a = {0, rip}},
              begin);
    if (sig && is_guarded_by_now(&signal))
        sig = 0;
    raise_or_go_on(group, sig, &signal);
}

static bool linux_maps(uint64_t address)
{
    unsigned char resident;
    return sys3(__NR_mincore, ALIGN_DOWN(address, PAGE_SIZE), PAGE_SIZE, &resident) == 0;
}

// Let what is mapped around an address be executed if Linux says so, unless that may have changed
// since ros_space_forbidden() gave this number. Returns false if Linux does not say so.
static bool allow_mapping(uint64_t address, uint64_t forbidden)
{
    struct rw_mapping mapping;
    if (rw_find_mapping(address, &mapping) || !mapping.executable)
        return false;
    ros_space_has_executed(mapping.start, mapping.end - mapping.start, forbidden);
    return true;
}

bool ros_merge_missing(uint64_t address)
{
    if (address >= TASK_END || ros_space_covers(address) || !linux_maps(address))
        return false;
    int err = ros_space_merge(address);
    if (err && err != -EFAULT) {
        ros_stats_finish();
        mv_die(MV_EXIT_FAILURE,
               "run: merging address 0x%lx: %s; guest physical space or memory slots are used "
               "up, run the program with --hvm=off",
               (unsigned long)address, mv_strerror(err));
    }
    return !err;
}

// The AeroKernel could not lay the frame of a fault handler on the program's stack, which may have
// to grow first, or be merged. Returns true if it shall try again: once, then it is a stack
// overrun.
static bool make_room(struct ros_group *group, uint64_t address)
{
    enum { ROOM = KIB(8) }; // more than the frame, with all extended state
    const struct ros_handler_try now = {group->frame->rip, group->frame->rsp, address};
    if (memcmp(&now, &group->handler_try, sizeof(now)) == 0) {
        group->handler_try = (struct ros_handler_try){0};
        return false;
    }
    group->handler_try = now;
    for (uint64_t below = 0; below <= ROOM; below += PAGE_SIZE) {
        char byte;
        ros_copy_in(&byte, now.rsp - below, 1); // Linux lets the stack grow
        ros_merge_missing(now.rsp - below);
    }
    return true;
}

// An access that is forbidden, though Linux is not asked.
static void raise_access(struct ros_group *group, uint64_t error, uint64_t address)
{
    struct ros_signal segv = {.info = {.si_signo = SIGSEGV, .si_code = SEGV_ACCERR},
                              .trapno = VECTOR_PF,
                              .error = error | ERROR_USER,
                              .cr2 = address};
    segv.info.si_addr = (void *)address;
    raise_or_go_on(group, SIGSEGV, &segv);
}

// A page fault that the page tables gave, not Linux: memory not merged yet, or not executable as
// far as we know.
static void page_fault(struct ros_group *group, uint64_t error, uint64_t address)
{
    bool write = error & ERROR_WRITE;
    if (address < TASK_END && ros_space_is_claimed(address, write)) { // Linux would allow it
        raise_access(group, error & (ERROR_PRESENT | ERROR_WRITE), address);
        return;
    }
    if (ros_merge_missing(address))
        return;
    uint64_t rip = group->frame->rip, rewritten = rw_trapped(rip);
    if (rewritten && rewritten != rip) {
        group->frame->rip = rewritten;
        return;
    }
    if (ros_debug_breakpoint(group))
        return;
    bool fetch = address - rip < 16 && ros_space_covers(address) && !ros_space_executable(address);
    struct ros_signal signal;
    uint64_t begin = rdtsc(), before = fetch ? ros_space_forbidden() : 0;
    if (ros_is_syscall(rip)) {
        if (fetch && !allow_mapping(address, before))
            raise_access(group, ERROR_PRESENT | ERROR_FETCH, address);
        return;
    }
    int sig = ros_replicate(group, &signal);
    ros_trace(&(struct ros_event){.kind = MV_TRACE_REPLICATION, .result = sig, .a = {address, rip}},
              begin);
    if (!sig && fetch && !allow_mapping(address, before)) // Linux let it be executed: so shall we
        ros_space_has_executed(ALIGN_DOWN(address, PAGE_SIZE), PAGE_SIZE, before);
    raise_or_go_on(group, sig, &signal);
}

// The instruction before `rip`, which trapped: INT3 is one byte long, INT n two.
static uint64_t trap_length(uint64_t rip, unsigned vector)
{
    enum { INT3 = 0xcc };
    uint8_t last = INT3;
    ros_copy_in(&last, rip - 1, 1);
    return vector == VECTOR_BP && last == INT3 ? 1 : 2;
}

static bool is_int1(uint64_t rip)
{
    enum { INT1 = 0xf1 };
    uint8_t opcode = 0;
    return ros_copy_in(&opcode, rip, 1) == 0 && opcode == INT1;
}

// A trap flag's trap between a rewritten site and its call: begin again where SYSCALL traps.
// Returns false if that is not where the program is.
static bool step_over(struct ros_group *group, const struct kvm_regs *regs)
{
    enum ros_place place = ros_place_of(group, regs->rip);
    if (place != ROS_IN_PROGRAM)
        ros_state_to_frame(group, regs); // back to the SYSCALL in the stub
    else if (!rw_in_stub(regs->rip))
        return false;
    else
        ros_frame_from_regs(group->frame, regs);
    group->frame->rip = rw_syscall_of(group->frame->rip);
    return true;
}

// Behind a site that has been put back while the call waited the program finds its code, not what
// the stub has of it: it may have been changed since.
static void leave_old_stub(struct mv_frame *frame)
{
    uint64_t behind = rw_returned(frame->rip);
    if (behind && rw_resume_rip(behind) == behind)
        frame->rip = frame->rcx = behind;
}

static void request(struct ros_group *group)
{
    int64_t result;
    group->resume = ROS_CONTINUE;
    if (group->rewrite) {
        rw_rewrite(group->rewrite);
        group->rewrite = 0;
    }
    if (ros_channel_collect(group, &result)) // in the last moment
        group->frame->rax = (uint64_t)result;
    else if (ros_override_holds(group))
        ros_override_request(group);
    else
        ros_syscall_dispatch(group);
    leave_old_stub(group->frame);
    if (group->frame->rflags & ROS_FLAG_TF) { // or the entry's own instructions would trap
        struct hvm_state state;
        ros_read_state(group, &state, NULL);
        group->resume = ROS_LOAD;
    }
}

// The AeroKernel hands an event over, or cannot go on with it: it has met something that it cannot
// access (no_memory), or the extended state of a signal frame that the processor refuses.
static void event_handed_over(struct ros_group *group, bool no_memory)
{
    struct hvm_state state;
    uint64_t error = READ_ONCE(group->trap->error), cr2 = READ_ONCE(group->trap->cr2);
    uint32_t event = ros_take_trap(group);
    ros_read_state(group, &state, NULL);
    if (event == MV_TRAP_CALL)
        request(group);
    group->resume = ROS_LOAD;
    if (event != MV_TRAP_FAULT)
        return;
    uint64_t rip = group->frame->rip;
    ros_trace(
        &(struct ros_event){.kind = MV_TRACE_EXCEPTION, .nr = VECTOR_PF, .a = {error, rip, cr2}},
        rdtsc());
    if (ros_place_of(group, rip) !=
        ROS_IN_PROGRAM) // the AeroKernel itself does nothing that may fault
        ros_substrate_failed(group, "exception in the AeroKernel", VECTOR_PF);
    if (!no_memory || !make_room(group, cr2))
        page_fault(group, error, cr2);
}

// An exception that a debugger has caused where the program's state alone does not tell it. Returns
// false if it is none.
static bool debugged(struct ros_group *group, unsigned vector, const struct kvm_regs *regs,
                     bool *in_frame)
{
    enum ros_place place = ros_place_of(group, regs->rip);
    bool step = group->debug.stepping && vector == VECTOR_DB;
    bool kernel = place == ROS_IN_TRAP && ros_space_is_kernel(regs->rip);
    if (!step && !(kernel && vector == VECTOR_UD && ros_debug_is_breakpoint(regs->rip)))
        return false;
    *in_frame = !kernel;
    if (kernel) { // the event that it answers does not begin anew: this is what is looked at
        struct mv_frame state;
        ros_frame_from_regs(&state, regs);
        ros_debug_kernel(group, &state, step);
        ros_load_frame(group, &state);
        return true;
    }
    ros_state_to_frame(group, regs);
    ros_debug_stepped(group, place == ROS_IN_PROGRAM);
    return true;
}

// A program at ring 0 can get to CPL 3 by IRET, as it can natively, where its next request by a
// rewritten site may not ring the doorbell. The frame is complete then.
static bool is_request(const struct ros_group *group, const struct ak_exception *e)
{
    return !ros.ring && e->vector == VECTOR_GP && (e->cs & 3) &&
           e->rip == group->window + (uint64_t)(ak_port - ak_entry_page);
}

// Returns true if the program's state is in the frame now.
static bool exception(struct ros_group *group)
{
    struct hvm_state state;
    struct ak_exception e;
    uint64_t begin = rdtsc();
    ros_read_state(group, &state, NULL);
    if (!ak_exception_read(group->ist_page, group->window, state.regs.rip, state.regs.rsp, &e))
        ros_substrate_failed(group, "unknown exception", state.regs.rip);
    ros_trace(
        &(struct ros_event){.kind = MV_TRACE_EXCEPTION, .nr = e.vector, .a = {e.error, e.rip, 0}},
        begin);
    WRITE_ONCE(group->trap->attention, 0);
    state.regs.rip = e.rip;
    state.regs.rsp = e.rsp;
    state.regs.rflags = e.rflags;
    group->resume = ROS_LOAD;
    bool in_frame = true;
    if (ros_debug_on() && debugged(group, e.vector, &state.regs, &in_frame))
        return in_frame;
    // A program that steps through itself sees a rewritten site as the one instruction it was.
    if (e.vector == VECTOR_DB && e.rflags & ROS_FLAG_TF && step_over(group, &state.regs))
        return true;
    if (is_request(group, &e)) {
        request(group);
        group->resume = ROS_LOAD; // at CPL 0
        return true;
    }
    enum ros_place place = ros_place_of(group, e.rip);
    if (place == ROS_IN_TRAP) {
        event_handed_over(group, false);
        return true;
    }
    if (place != ROS_IN_PROGRAM)
        ros_substrate_failed(group, "exception in the AeroKernel", e.vector);
    ros_state_to_frame(group, &state.regs);
    if (e.software) { // Linux knows what it makes of it
        group->frame->rip -= trap_length(e.rip, e.vector);
        replicate(group);
        return true;
    }
    if (e.vector == VECTOR_UD)
        ros_control_check_syscall(group, e.rip);
    if (e.vector != VECTOR_DB) {
        replicate(group);
        return true;
    }
    int code = is_int1(e.rip - 1) && !(e.rflags & ROS_FLAG_TF) ? TRAP_BRKPT : TRAP_TRACE;
    struct ros_signal signal = {.info = {.si_signo = SIGTRAP, .si_code = code},
                                .trapno = VECTOR_DB};
    signal.info.si_addr = (void *)e.rip;
    ros_signal_force(group, &signal);
    return true;
}

static void fault(struct ros_group *group)
{
    uint64_t begin = rdtsc();
    struct hvm_state state;
    ros_read_state(group, &state, NULL);
    ros_control_check(group, &state);
    enum ros_place place = ros_place_of(group, state.regs.rip);
    if (place == ROS_IN_TRAP) {
        event_handed_over(group, true);
        return;
    }
    if (place != ROS_IN_PROGRAM)
        ros_substrate_failed(group, "fault in the AeroKernel", 0);
    ros_state_to_frame(group, &state.regs);
    group->resume = ROS_LOAD;
    ros_trace(&(struct ros_event){.kind = MV_TRACE_FAULT, .a = {0, group->frame->rip}}, begin);
    replicate(group);
}

// A signal has arrived.
static bool interrupted(struct ros_group *group)
{
    struct hvm_state state;
    uint64_t begin = rdtsc();
    hvm_unkick(&group->vcpu);
    ros_read_state(group, &state, NULL);
    ros_control_check(group, &state);
    enum ros_place place = ros_place_of(group, state.regs.rip);
    // An exception comes first, and then to us.
    if (place == ROS_IN_VECTOR || ros_override_holds(group)) {
        WRITE_ONCE(group->trap->attention, 1);
        return false;
    }
    // An event that the AeroKernel is answering begins anew: it may have seen no signal waiting.
    if (!ros_signal_waiting(group) && !ros_debug_waiting(group) && place != ROS_IN_TRAP)
        return false;
    ros_state_to_frame(group, &state.regs);
    group->resume = ROS_LOAD;
    ros_trace(&(struct ros_event){.kind = MV_TRACE_KICK, .a = {0, group->frame->rip}}, begin);
    return true;
}

// Answer one exit. Returns true if the program's state is in the frame now.
static bool handle(struct ros_group *group, struct hvm_exit exit)
{
    if (ros_override_runs(group)) {
        ros_override_exit(group, exit);
        return false;
    }
    switch (exit.kind) {
    case HVM_EXIT_STORE:
        if (exit.address == ros_space_doorbell())
            request(group);
        else if (exit.address == ros_space_doorbell() + AK_DOORBELL_TRAP)
            event_handed_over(group, ros_space_is_kernel(ros_pushed(group, ROS_PUSHED_RIP)));
        else
            break;
        return true;
    case HVM_EXIT_PORT:
        if (exit.address == AK_PORT_DOORBELL)
            request(group);
        else if (exit.address == AK_PORT_VECTOR)
            return exception(group);
        else if (exit.address == AK_PORT_TRAP)
            event_handed_over(group, ros_space_is_kernel(ros_pushed(group, ROS_PUSHED_RIP)));
        else
            return false; // a port of the program's at ring 0: nothing is behind it
        return true;
    case HVM_EXIT_FAULT:
        fault(group);
        return true;
    case HVM_EXIT_INTERRUPT:
        return interrupted(group);
    case HVM_EXIT_HALT:
        sys0(__NR_sched_yield); // a privilege of ring 0; no interrupt would end it
        return false;
    case HVM_EXIT_NOTHING:
        return false;
    case HVM_EXIT_DEAD:
    case HVM_EXIT_REFUSED:
    case HVM_EXIT_FAILURE:
        break;
    }
    ros_substrate_failed(group, hvm_exit_name(exit), exit.address);
}

void ros_loop(struct ros_group *group)
{
    ros_trace(&(struct ros_event){.kind = MV_TRACE_GROUP_START}, rdtsc());
    ros_debug_begin(group);
    for (bool in_frame = true;;) {
        while (in_frame && !ros_override_holds(group) &&
               (ros_debug_waiting(group) || ros_signal_waiting(group))) {
            ros_debug_settle(group);
            if (!ros_signal_waiting(group))
                break;
            ros_signal_deliver(group);
        }
        // The end of the answer, or section, leaves; what came here may have taken its mark.
        if (ros_override_holds(group) && (ros_signal_waiting(group) || ros_debug_waiting(group)))
            WRITE_ONCE(group->trap->attention, 1);
        if (group->resume == ROS_LOAD)
            ros_load_frame(group, group->frame);
        ros_load_xsave(group);
        ros_group_follow_cpu(group);
        if (ros_profile)
            ros_profile_enters(group);
        // A signal that arrives from here on kicks the virtual CPU out at once.
        ros_channel_release(group);
        WRITE_ONCE(group->watch.entries, group->watch.entries + 1);
        WRITE_ONCE(group->identity->entries, group->watch.entries);
        struct hvm_exit exit = hvm_vcpu_run(&group->vcpu);
        if (ros_profile)
            ros_profile_left(group);
        ros_channel_take(group);
        in_frame = handle(group, exit);
    }
}
