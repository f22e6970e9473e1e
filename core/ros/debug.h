// The core's part of debugging (abi/debug.h, docs/debugging.md): groups park when a debugger wants
// it, tell their state and take it back. Without a debugger all of this is one test of a word.
#ifndef MV_ROS_DEBUG_H
#define MV_ROS_DEBUG_H

#include "base/types.h" // before the others: they include nothing, see there

#include "abi/debug.h"
#include "ros/ros.h"

// Map the file that is shared with the debugger and take over the socket. Before signals are set
// up. Returns 0 or a negative errno.
int ros_debug_open(int file, int socket);

// What the debugger has to know of the program before its first instruction. stack: its first
// stack pointer.
void ros_debug_describe(uint64_t stack);

// True in processes that have a debugger's page.
bool ros_debug_on(void);

// True if the core handles the signal although the program leaves it to Linux's default, which is
// to end the process: a debugger may have to be asked, or the program may block it unknown to
// Linux. Also in forked children.
bool ros_debug_takes_default(int sig);

// A group begins, on its partner, its state in the frame. The first one waits for the debugger.
void ros_debug_begin(struct ros_group *group);
// A group's thread ends, or has never come to be.
void ros_debug_end(const struct ros_group *group);

// The process ends with a wait status.
void ros_debug_exit(uint32_t status);
// The group's process, which may be a child of vfork, is about to execute another program or to go
// on natively; or it has come to nothing (false). No signal of the debugger's comes in between.
void ros_debug_leave(struct ros_group *group, bool leaving);
// In a forked child, or before the process goes on natively, the group's state in the frame: no
// debugger, no breakpoints, and neither a step nor a stop, which nobody would end.
void ros_debug_forget(struct ros_group *group);

// In the handler of signals: true if it was the debugger's, which wants the group to stop.
bool ros_debug_kick(struct ros_group *group, int sig, const siginfo_t *info, struct ucontext *uc);

// True if ros_debug_settle() has something to do.
static inline bool ros_debug_waiting(const struct ros_group *group)
{
    return READ_ONCE(group->debug_pending) || group->debug.stepping;
}

// The state is in the frame: park if the debugger wants it, or if a step is complete.
void ros_debug_settle(struct ros_group *group);

// True if there is a breakpoint at an address.
bool ros_debug_is_breakpoint(uint64_t rip);
// The program's next instruction cannot be executed. Returns true if that is a breakpoint's doing;
// the group has been parked.
bool ros_debug_breakpoint(struct ros_group *group);
// The trap of a step has come, and the program's state is in the frame. complete: behind an
// instruction of the program's.
void ros_debug_stepped(struct ros_group *group, bool complete);
// A breakpoint or a step in the AeroKernel while it answers an event: `state` is the virtual CPU's,
// and may be changed.
void ros_debug_kernel(struct ros_group *group, struct mv_frame *state, bool step);

// A signal is to be delivered, the state is in the frame. Returns false if it is not after all; the
// debugger may also have made another of it.
bool ros_debug_offer(struct ros_group *group, struct ros_signal *signal);

// ros_call() for a program that is debugged: a call that was interrupted only so that the group can
// stop begins again afterwards, with what is left of its time.
int64_t ros_debug_call(struct ros_group *group, uint64_t nr, struct ros_args *args);

#endif
