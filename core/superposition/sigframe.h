// The layout of signal frames, which is Linux's (arch/x86): programs read and change them, and
// return through them. Used by the ROS and, for faults, by the HRT itself.
#ifndef MV_SUPERPOSITION_SIGFRAME_H
#define MV_SUPERPOSITION_SIGFRAME_H

#include "abi/frame.h"
#include "abi/signal.h"
#include "aerokernel/xstate.h"

// struct rt_sigframe of arch/x86/include/asm/sigframe.h.
struct sf_frame {
    uint64_t restorer;
    struct ucontext uc;
    siginfo_t info;
};

enum { SF_FXSAVE_BYTES = 512, SF_XSTATE_BV = 512, SF_HEADER_BYTES = 64, SF_MAGIC2_BYTES = 4 };
enum { SF_XSTATE_ALIGN = AK_XSTATE_ALIGN };
#define SF_X87_SSE 3ULL // components that every image has
// Of uc_flags: what a kernel with XSAVE says.
#define SF_UC_FLAGS (UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS)

// The extended state as frames have it. features: XCR0, 0 without XSAVE.
static inline struct ak_xstate sf_xstate(uint64_t features, uint64_t size)
{
    return (struct ak_xstate){
        .features = features ? features : SF_X87_SSE, .size = size, .fxsave_only = !features};
}

// Where a frame goes.
struct sf_place {
    uint64_t fpstate, frame;
};

bool sf_on_altstack(const stack_t *stack, uint64_t sp);

// Find room for a frame below sp's red zone, or on the alternate stack. Returns false where Linux,
// too, finds none: running off the end of an alternate stack, or an action without a restorer.
bool sf_find_place(uint64_t sp, const struct ros_sigaction *action, const stack_t *altstack,
                   const struct ak_xstate *xstate, struct sf_place *ret);

// Turn an XSAVE image into the fpstate of a frame: the words for software are Linux's.
void sf_mark_xstate(char *image, const struct ak_xstate *xstate);

// Everything of a frame but the extended state.
void sf_fill(struct sf_frame *frame, const struct mv_frame *state, const struct ros_signal *signal,
             const struct ros_sigaction *action, const stack_t *altstack, ros_sigset mask,
             uint64_t fpstate);

// Point the state at the handler, whose frame is at `frame`.
void sf_enter(struct mv_frame *state, const struct ros_sigaction *action, int sig, uint64_t frame);

// General registers between the state and a signal context, as sigreturn takes them.
void sf_context_from_state(struct sigcontext *to, const struct mv_frame *from);
void sf_state_from_context(struct mv_frame *to, const struct sigcontext *from);

#endif
