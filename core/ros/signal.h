// Signals of the program, and the core's own.
#ifndef MV_ROS_SIGNAL_H
#define MV_ROS_SIGNAL_H

#include "ros/ros.h"

// signal.c -----------------------------------------------------------------------------------

// Install the handlers that the core needs, and read the dispositions inherited.
void ros_signal_init(struct ros_sighand *sighand);
// Register the group's alternate stack with Linux; by the partner itself, before anything else.
void ros_signal_thread_init(struct ros_group *group);
// Deliver what is pending; the state is in the frame.
void ros_signal_deliver(struct ros_group *group);
bool ros_signal_waiting(const struct ros_group *group);
// Deliver a signal that the program's own instruction raised; the state is in the frame.
void ros_signal_force(struct ros_group *group, const struct ros_signal *signal);
// End the process by the default action of a signal.
_Noreturn void ros_die_by_signal(int sig);
// Make the dispositions and the mask the kernel's own, before the program goes on natively.
void ros_signal_to_native(struct ros_group *group);
// Install the core's handlers of instruction-raised signals in front of the process's own, which
// native threads go on having.
void ros_signal_attach(void);
// The process's own again. Returns 0, or -EBUSY if it has installed others since.
int ros_signal_detach(void);
// Install the core's handlers of instruction-raised signals again, after an execve that failed.
void ros_signal_reclaim(const struct ros_sighand *sighand);
// Let Linux hold those of a set that were sent while the program blocked them. The partner blocks
// them: where it does no more, they come again.
void ros_signal_give_back(struct ros_group *group, ros_sigset set);
// Give one of ROS_SYNC_SIGNALS that was sent to the process to a thread of the program's that does
// not block it (`open`), or to any. Returns false if there is none.
bool ros_signal_to_another(const struct ros_group *self, const siginfo_t *info, bool open);
// Index of one of ROS_SYNC_SIGNALS in tables that have an entry for each.
unsigned ros_sync_index(int sig);
struct ros_sighand *ros_sighand_copy(struct ros_sighand *from);
void ros_sighand_put(struct ros_sighand *sighand);
void ros_sighands_lock(void);
void ros_sighands_unlock(void);
// The program's signal mask.
ros_sigset ros_signal_mask(const struct ros_group *group);
void ros_signal_set_mask(struct ros_group *group, ros_sigset mask);
// True if the program's mask is known in the HRT only (ak_signal_mask()).
bool ros_signal_defers(const struct ros_group *group);
// Have the partner block what comes from outside. Returns false if a signal has come before: the
// call is to begin anew behind it (ROS_INTERRUPTED), or it would be this thread's, blocked or lost
// with it, when natively another thread takes it.
bool ros_signal_block_all(struct ros_group *group);
// Make the program's mask the partner's, if it is not.
void ros_signal_settle_mask(struct ros_group *group);
// Set the partner's mask and the program's, which blocks more, or the same.
void ros_signal_defer_mask(struct ros_group *group, ros_sigset partner, ros_sigset mask);
// What the program blocks of ROS_SYNC_SIGNALS.
ros_sigset ros_blocked_sync(const struct ros_group *group);
void ros_set_blocked_sync(struct ros_group *group, ros_sigset mask);
// Change the program's alternate stack, as sigaltstack(2) does. Returns 0, or negative errno.
int ros_signal_set_altstack(struct ros_group *group, const stack_t *stack);
// Tell the HRT of the alternate stack and SIGSEGV's action.
void ros_signal_publish(struct ros_group *group);

// sigown.c: signals of the core's own --------------------------------------------------------

enum { ROS_SIGNAL_OWN = SIGILL };
// Send a partner or a poller a signal that the program does not see. Returns 0 or a negative errno.
int ros_signal_send_own(uint32_t pid, uint32_t tid);
// In a handler: true if the signal is one of these. expected: not 0 if one is on its way, which
// clears it.
bool ros_signal_is_own(const siginfo_t *info, uint32_t *expected);
// Give a signal that the calling thread has taken to the process, which a thread may name by its
// own id only, as si_code may be Linux's (rt_sigqueueinfo(2)).
void ros_signal_to_process(const struct ros_group *self, const siginfo_t *info);
// Give one of ROS_SYNC_SIGNALS that came for the process to a thread. Only the sender may say what
// it says: the thread gets one of the core's, and finds the original with its group. Returns false
// if the thread ends.
bool ros_signal_pass_on(struct ros_group *to, const siginfo_t *info);
// In a handler: put what has been passed on in the place of the core's own signal. Returns false if
// there is nothing.
bool ros_signal_take_passed_on(struct ros_group *self, siginfo_t *info);
// The calling thread ends, with all signals blocked: what has been passed on to it is for others.
void ros_signal_return_passed_on(struct ros_group *self);

// sigframe.c: signal frames ------------------------------------------------------------------

// Make the program's extended state that with which handlers start.
void ros_reset_xsave(struct ros_group *group);

// Build a frame for `action` on the program's stack and point the state in the frame at the
// handler. Returns 0 or -EFAULT.
int ros_sigframe_push(struct ros_group *group, const struct ros_signal *signal,
                      const struct ros_sigaction *action, ros_sigset mask);
// Restore the state from the frame at the program's stack pointer. Returns 0 or -EFAULT.
int ros_sigframe_pop(struct ros_group *group, ros_sigset *mask);
// A frame in native_frame from which rt_sigreturn continues the program's state natively.
// Extended state is taken from group->xsave. Returns what ros_native_enter() takes.
void *ros_sigframe_native(struct ros_group *group, ros_sigset mask, uint64_t extra_flags);
// Take the state back from the frame that the kernel made on the way out.
void ros_sigframe_from_native(struct ros_group *group, const struct ucontext *uc);

#endif
