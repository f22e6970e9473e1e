// Signal frames of the ROS side: built on the program's stack for handlers, and privately for
// native execution (superposition/sigframe.h has the layout).

#include "superposition/sigframe.h"

#include <asm/errno.h>

#include "base/string.h"
#include "rewrite/rewrite.h"
#include "ros/signal.h"
#include "ros/state.h"

#define XSTATE_SSE 2ULL
enum { SW_RESERVED = 464, MXCSR = 24, XMM_BEGIN = 160, XMM_END = 416 };

static struct ak_xstate xstate(void)
{
    return sf_xstate(ros.hvm.limits.xcr0, ros.hvm.limits.xsave_size);
}

// Say which components the image holds. Where SSE is in its initial state it is written out: KVM
// takes MXCSR only together with the registers, and its value is the program's all the same.
static void set_features(char *xsave, uint64_t features)
{
    if (!(features & XSTATE_SSE))
        memset(xsave + XMM_BEGIN, 0, XMM_END - XMM_BEGIN);
    features |= XSTATE_SSE;
    memset(xsave + SW_RESERVED, 0, SF_FXSAVE_BYTES - SW_RESERVED);
    memset(xsave + SF_XSTATE_BV, 0, SF_HEADER_BYTES);
    memcpy(xsave + SF_XSTATE_BV, &features, sizeof(features));
}

// Extended state as after a fresh exec, which is what handlers start with.
static void initial_xsave(char *xsave)
{
    const uint16_t fcw = 0x37f;
    const uint32_t mxcsr = 0x1f80;
    memset(xsave, 0, HVM_XSAVE_BYTES);
    memcpy(xsave, &fcw, sizeof(fcw));
    memcpy(xsave + MXCSR, &mxcsr, sizeof(mxcsr));
    set_features(xsave, 0);
}

void ros_reset_xsave(struct ros_group *group)
{
    initial_xsave(group->xsave);
    group->xsave_place = XSAVE_IN_GROUP;
}

int ros_sigframe_push(struct ros_group *group, const struct ros_signal *signal,
                      const struct ros_sigaction *action, ros_sigset mask)
{
    struct mv_frame *f = group->frame;
    struct ak_xstate x = xstate();
    struct sf_place place;
    struct sf_frame frame;
    if (!sf_find_place(f->rsp, action, &group->altstack, &x, &place) || ros_read_xsave(group))
        return -EFAULT;
    sf_mark_xstate(group->xsave, &x);
    if (ros_copy_out(place.fpstate, group->xsave, x.size + SF_MAGIC2_BYTES))
        return -EFAULT;
    uint64_t behind = rw_returned(f->rip);
    if (behind)
        f->rcx = behind;
    f->rip = rw_program_rip(f->rip);
    sf_fill(&frame, f, signal, action, &group->altstack, mask, place.fpstate);
    if (ros_copy_out(place.frame, &frame, sizeof(frame)))
        return -EFAULT;
    if (group->altstack.ss_flags & (int)SS_AUTODISARM) {
        group->altstack = (stack_t){.ss_flags = SS_DISABLE};
        ros_signal_publish(group);
    }
    ros_reset_xsave(group);
    sf_enter(f, action, signal->info.si_signo, place.frame);
    return 0;
}

// Load the extended state that the frame points to; what is not marked as XSAVE is FXSAVE only.
static int pop_xstate(struct ros_group *group, uint64_t fpstate)
{
    struct ak_xstate x = xstate();
    group->xsave_place = XSAVE_IN_VCPU; // until the buffer holds what the frame has
    initial_xsave(group->xsave);
    if (fpstate) {
        struct _fpx_sw_bytes sw;
        uint32_t magic2;
        uint64_t size = x.size, features = SF_X87_SSE;
        if (ros_copy_in(group->xsave, fpstate, SF_FXSAVE_BYTES))
            return -EFAULT;
        memcpy(&sw, group->xsave + SW_RESERVED, sizeof(sw));
        if (sw.magic1 == FP_XSTATE_MAGIC1 && sw.xstate_size == size &&
            ros_copy_in(&magic2, fpstate + size, sizeof(magic2)) == 0 &&
            magic2 == FP_XSTATE_MAGIC2) {
            if (ros_copy_in(group->xsave, fpstate, size))
                return -EFAULT;
            memcpy(&features, group->xsave + SF_XSTATE_BV, sizeof(features));
            features &= x.features & sw.xfeatures;
        }
        set_features(group->xsave, features);
    }
    group->xsave_place = XSAVE_IN_GROUP;
    return 0;
}

int ros_sigframe_pop(struct ros_group *group, ros_sigset *mask)
{
    struct ucontext uc;
    uint64_t at = group->frame->rsp - sizeof(uint64_t);
    if (ros_copy_in(&uc, at + offsetof(struct sf_frame, uc), sizeof(uc)))
        return -EFAULT;
    if (pop_xstate(group, (uint64_t)uc.uc_mcontext.fpstate))
        return -EFAULT;
    sf_state_from_context(group->frame, &uc.uc_mcontext);
    ros_signal_set_altstack(group, &uc.uc_stack); // what it refuses Linux ignores, too
    *mask = uc.uc_sigmask;
    return 0;
}

void *ros_sigframe_native(struct ros_group *group, ros_sigset mask, uint64_t extra_flags)
{
    struct sf_frame *frame = (struct sf_frame *)group->native_frame;
    char *fpstate = (char *)ALIGN_UP((uint64_t)(frame + 1), SF_XSTATE_ALIGN);
    memset(group->native_frame, 0, sizeof(group->native_frame));
    frame->uc.uc_flags = SF_UC_FLAGS;
    frame->uc.uc_sigmask = mask;
    frame->uc.uc_stack.ss_sp = (char *)group + GROUP_ALTSTACK;
    frame->uc.uc_stack.ss_size = GROUP_ALTSTACK_SIZE;
    sf_context_from_state(&frame->uc.uc_mcontext, group->frame);
    frame->uc.uc_mcontext.eflags |= extra_flags;
    frame->uc.uc_mcontext.fpstate = (void *)fpstate;
    memcpy(fpstate, group->xsave, HVM_XSAVE_BYTES);
    struct ak_xstate x = xstate();
    sf_mark_xstate(fpstate, &x);
    return &frame->uc; // where the stack pointer stands when a handler has returned
}

void ros_sigframe_from_native(struct ros_group *group, const struct ucontext *uc)
{
    sf_state_from_context(group->frame, &uc->uc_mcontext);
    const char *fpstate = (const char *)uc->uc_mcontext.fpstate;
    uint64_t features;
    memcpy(&features, fpstate + SF_XSTATE_BV, sizeof(features));
    struct ak_xstate x = xstate();
    features = ros.hvm.limits.xcr0 ? features & x.features : SF_X87_SSE;
    memset(group->xsave, 0, HVM_XSAVE_BYTES);
    memcpy(group->xsave, fpstate, x.size);
    set_features(group->xsave, features);
    group->xsave_place = XSAVE_IN_GROUP;
}
