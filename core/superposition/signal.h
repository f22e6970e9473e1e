// Signals in the HRT.
#ifndef MV_SUPERPOSITION_SIGNAL_H
#define MV_SUPERPOSITION_SIGNAL_H

#include "superposition/sigframe.h"

// Enter the program's handler for the fault in the window's mv_trap. Returns false if that is the
// ROS's affair.
bool ak_raise_segv(char *window);

// Answer the rt_sigreturn in the window's mv_trap. Returns false if that is the ROS's affair.
bool ak_sigreturn(char *window);

// Change a mask as rt_sigprocmask(2) does. Returns false if there is no such change.
bool ak_mask_after(int how, ros_sigset set, ros_sigset *mask);

// Answer the rt_sigprocmask in the window's mv_trap, if it changes nothing of what the partner's
// mask holds. Returns false if that is the ROS's affair.
bool ak_sigprocmask(char *window);

// Answer the set_robust_list in the window's mv_trap, if Linux has that list already. Returns false
// if it does not.
bool ak_set_robust_list(char *window);

#endif
