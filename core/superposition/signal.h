// Signals in the HRT, and the program's extended state as signal frames have it.
#ifndef MV_SUPERPOSITION_SIGNAL_H
#define MV_SUPERPOSITION_SIGNAL_H

#include "superposition/sigframe.h"

// What the extended state consists of on the virtual CPU of a window.
struct sf_xstate ak_xstate(const char *window);

// Save it to, and load it from, 64-byte aligned images of a frame.
void ak_xsave(char *image, const struct sf_xstate *x);
void ak_xrstor(const char *image, const struct sf_xstate *x);

// Enter the program's handler for the fault in the window's mv_trap. Returns false if that is the
// ROS's affair.
bool ak_raise_segv(char *window);

#endif
