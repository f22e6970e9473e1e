// The program's state in a virtual CPU: where it is while the AeroKernel answers, and how it is put
// back (state.c).
#ifndef MV_ROS_STATE_H
#define MV_ROS_STATE_H

#include "base/types.h" // before the others: they include nothing

#include "ros/ros.h"

#define ROS_FLAG_TF 0x100ULL // of RFLAGS

// Where the virtual CPU stands, as far as its state is concerned (aerokernel/entry.S).
enum ros_place {
    ROS_IN_PROGRAM, // its registers are the program's
    ROS_IN_CALL,    // a rewritten site has called: RCX is the address behind it
    ROS_IN_SYSCALL, // SYSCALL has trapped: RCX is the address behind it, R11 the flags
    ROS_IN_REQUEST, // frame: RIP, RSP, flags; registers: the rest; the slot says how far the call
                    // is
    ROS_IN_STAMP,   // the same, but the stamp has RAX and RDX
    ROS_IN_RESULT,  // the same, and the call is done
    ROS_IN_ANSWER,  // the frame holds everything
    ROS_IN_TRAP,    // the AeroKernel answers an event; the trap's record says how far it is
    ROS_IN_VECTOR,  // an exception is on its way to the exit, or to the AeroKernel, that deals with
                    // it
};
enum ros_place ros_place_of(const struct ros_group *group, uint64_t rip);

// The virtual CPU's state with the bases that the program believes in: while the GS base is not the
// program's own, the AeroKernel keeps its window there for rewritten system-call sites.
void ros_read_state(struct ros_group *group, struct hvm_state *ret, uint64_t *cr2);
// Put a state into the virtual CPU; the bases are those that the program believes in.
void ros_load_state(struct ros_group *group, struct hvm_state *state);
// The GS base to load for what the program believes in.
uint64_t ros_gs_base(const struct ros_group *group, uint64_t program);

// Have the program's extended state in group->xsave. Who changes it there says so by
// group->xsave_place = XSAVE_IN_GROUP. Returns 0 or a negative errno.
int ros_read_xsave(struct ros_group *group);
// Give the virtual CPU the extended state if it has been changed. Ends the process if KVM refuses
// it.
void ros_load_xsave(struct ros_group *group);

// The general registers, RIP, flags and RSP of a frame.
void ros_frame_from_regs(struct mv_frame *f, const struct kvm_regs *r);
// The program's state into the group's frame, from the registers that the virtual CPU was found
// with. A call that has been asked for, but has not begun, is still to come afterwards.
void ros_state_to_frame(struct ros_group *group, const struct kvm_regs *regs);
// Take over the event that the AeroKernel is answering: the frame gets the program's state as of
// the event. Returns MV_TRAP_FAULT or MV_TRAP_CALL; MV_TRAP_NONE if the event is answered already
// and the frame holds the state to go on with.
uint32_t ros_take_trap(struct ros_group *group);
// Put a state, most often the group's frame, into the virtual CPU.
void ros_load_frame(struct ros_group *group, const struct mv_frame *frame);

#endif
