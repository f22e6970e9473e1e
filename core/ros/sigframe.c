// Signal frames, laid out as arch/x86 lays them out: programs read and change them, and return
// through them.

#include <asm/errno.h>
#include <asm/sigcontext.h>

#include "aerokernel/cpu.h"
#include "base/string.h"
#include "rewrite/rewrite.h"
#include "ros/ros.h"

// struct rt_sigframe of arch/x86/include/asm/sigframe.h.
struct rt_sigframe {
    uint64_t restorer;
    struct ucontext uc;
    siginfo_t info;
};

#define UC_FLAGS_FRAME (UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS)
#define FLAGS_RESTORED 0x050dd5ULL // what sigreturn takes: AC RF OF DF TF SF ZF AF PF CF
#define FLAGS_HANDLER (0x400ULL | 0x10000ULL | 0x100ULL) // cleared for a handler: DF RF TF
#define RED_ZONE 128
#define XCR0_LEGACY 3ULL
#define XSTATE_SSE 2ULL
enum { FXSAVE_BYTES = 512, SW_RESERVED = 464, MAGIC2_BYTES = 4, XSTATE_BV = 512, XSAVE_ALIGN = 64 };
enum { MXCSR = 24, XMM_BEGIN = 160, XMM_END = 416 };

// fxsave area, extended area, end marker, as sizes.
static uint64_t xstate_size(void)
{
    return ros.hvm.limits.xsave_size;
}

static uint64_t xstate_features(void)
{
    return ros.hvm.limits.xcr0 ? ros.hvm.limits.xcr0 : XCR0_LEGACY;
}

bool ros_on_altstack(const stack_t *stack, uint64_t sp)
{
    uint64_t base = (uint64_t)stack->ss_sp;
    if (stack->ss_flags & (int)SS_AUTODISARM)
        return false;
    return sp > base && sp - base <= stack->ss_size;
}

// Turn an XSAVE image into the fpstate of a signal frame: the words for software are Linux's.
static void mark_xstate(char *xsave)
{
    uint64_t size = xstate_size();
    struct _fpx_sw_bytes sw = {.magic1 = FP_XSTATE_MAGIC1,
                               .extended_size = (uint32_t)(size + MAGIC2_BYTES),
                               .xfeatures = xstate_features(),
                               .xstate_size = (uint32_t)size};
    uint32_t magic2 = FP_XSTATE_MAGIC2;
    memcpy(xsave + SW_RESERVED, &sw, sizeof(sw));
    memcpy(xsave + size, &magic2, sizeof(magic2));
}

// Say which components the image holds. Where SSE is in its initial state it is written out: KVM
// takes MXCSR only together with the registers, and its value is the program's all the same.
static void set_features(char *xsave, uint64_t features)
{
    if (!(features & XSTATE_SSE))
        memset(xsave + XMM_BEGIN, 0, XMM_END - XMM_BEGIN);
    features |= XSTATE_SSE;
    memset(xsave + SW_RESERVED, 0, FXSAVE_BYTES - SW_RESERVED);
    memset(xsave + XSTATE_BV, 0, 64);
    memcpy(xsave + XSTATE_BV, &features, sizeof(features));
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

static void context_from_frame(struct sigcontext *to, const struct mv_frame *from)
{
    to->r8 = from->r8, to->r9 = from->r9, to->r10 = from->r10, to->r11 = from->r11;
    to->r12 = from->r12, to->r13 = from->r13, to->r14 = from->r14, to->r15 = from->r15;
    to->rdi = from->rdi, to->rsi = from->rsi, to->rbp = from->rbp, to->rbx = from->rbx;
    to->rdx = from->rdx, to->rax = from->rax, to->rcx = from->rcx, to->rsp = from->rsp;
    to->rip = from->rip, to->eflags = from->rflags;
    to->cs = AK_USER_CS;
    to->ss = AK_USER_SS;
}

static void frame_from_context(struct mv_frame *to, const struct sigcontext *from)
{
    to->r8 = from->r8, to->r9 = from->r9, to->r10 = from->r10, to->r11 = from->r11;
    to->r12 = from->r12, to->r13 = from->r13, to->r14 = from->r14, to->r15 = from->r15;
    to->rdi = from->rdi, to->rsi = from->rsi, to->rbp = from->rbp, to->rbx = from->rbx;
    to->rdx = from->rdx, to->rax = from->rax, to->rcx = from->rcx, to->rsp = from->rsp;
    to->rip = from->rip;
    to->rflags = (to->rflags & ~FLAGS_RESTORED) | (from->eflags & FLAGS_RESTORED);
}

// Where the frame goes: below the red zone, or on the alternate stack. 0 if it does not fit there.
static uint64_t frame_top(struct ros_group *group, const struct ros_sigaction *action)
{
    const stack_t *alt = &group->altstack;
    uint64_t sp = group->frame->rsp - RED_ZONE;
    bool on_it = ros_on_altstack(alt, group->frame->rsp);
    bool enter = (action->flags & SA_ONSTACK) && alt->ss_size && !on_it;
    if (enter)
        return (uint64_t)alt->ss_sp + alt->ss_size;
    uint64_t need = xstate_size() + sizeof(struct rt_sigframe) + XSAVE_ALIGN * 2;
    if (on_it && !ros_on_altstack(alt, sp - need))
        return 0; // Linux, too, refuses to run off the end of an alternate stack
    return sp;
}

int ros_sigframe_push(struct ros_group *group, const struct ros_signal *signal,
                      const struct ros_sigaction *action, ros_sigset mask)
{
    struct mv_frame *f = group->frame;
    struct rt_sigframe frame = {.restorer = action->restorer};
    uint64_t top = frame_top(group, action);
    uint64_t fpstate = ALIGN_DOWN(top - xstate_size() - MAGIC2_BYTES, XSAVE_ALIGN);
    uint64_t at = ALIGN_DOWN(fpstate - sizeof(frame), 16) - 8;
    if (!top || !(action->flags & 0x04000000 /* SA_RESTORER */))
        return -EFAULT;
    if (ros_read_xsave(group))
        return -EFAULT;
    mark_xstate(group->xsave);
    if (ros_copy_out(fpstate, group->xsave, xstate_size() + MAGIC2_BYTES))
        return -EFAULT;

    frame.uc.uc_flags = UC_FLAGS_FRAME;
    frame.uc.uc_stack = group->altstack;
    frame.uc.uc_sigmask = mask;
    f->rip = rw_program_rip(f->rip);
    context_from_frame(&frame.uc.uc_mcontext, f);
    frame.uc.uc_mcontext.err = signal->error;
    frame.uc.uc_mcontext.trapno = signal->trapno;
    frame.uc.uc_mcontext.cr2 = signal->cr2;
    frame.uc.uc_mcontext.oldmask = mask;
    frame.uc.uc_mcontext.fpstate = (void *)fpstate;
    frame.info = signal->info;
    if (ros_copy_out(at, &frame, sizeof(frame)))
        return -EFAULT;
    if (group->altstack.ss_flags & (int)SS_AUTODISARM)
        group->altstack = (stack_t){.ss_flags = SS_DISABLE};

    initial_xsave(group->xsave);
    group->xsave_place = XSAVE_IN_GROUP;
    f->rdi = (uint64_t)signal->info.si_signo;
    f->rsi = at + offsetof(struct rt_sigframe, info);
    f->rdx = at + offsetof(struct rt_sigframe, uc);
    f->rax = 0;
    f->rsp = at;
    f->rip = action->handler;
    f->rflags &= ~FLAGS_HANDLER;
    return 0;
}

// Load the extended state that the frame points to; what is not marked as XSAVE is FXSAVE only.
static int pop_xstate(struct ros_group *group, uint64_t fpstate)
{
    group->xsave_place = XSAVE_IN_VCPU; // until the buffer holds what the frame has
    initial_xsave(group->xsave);
    if (fpstate) {
        struct _fpx_sw_bytes sw;
        uint32_t magic2;
        uint64_t size = xstate_size(), features = XCR0_LEGACY;
        if (ros_copy_in(group->xsave, fpstate, FXSAVE_BYTES))
            return -EFAULT;
        memcpy(&sw, group->xsave + SW_RESERVED, sizeof(sw));
        if (sw.magic1 == FP_XSTATE_MAGIC1 && sw.xstate_size == size &&
            ros_copy_in(&magic2, fpstate + size, sizeof(magic2)) == 0 &&
            magic2 == FP_XSTATE_MAGIC2) {
            if (ros_copy_in(group->xsave, fpstate, size))
                return -EFAULT;
            memcpy(&features, group->xsave + XSTATE_BV, sizeof(features));
            features &= xstate_features() & sw.xfeatures;
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
    if (ros_copy_in(&uc, at + offsetof(struct rt_sigframe, uc), sizeof(uc)))
        return -EFAULT;
    if (pop_xstate(group, (uint64_t)uc.uc_mcontext.fpstate))
        return -EFAULT;
    frame_from_context(group->frame, &uc.uc_mcontext);
    if (!ros_on_altstack(&group->altstack, group->frame->rsp) && uc.uc_stack.ss_size >= MINSIGSTKSZ)
        group->altstack = uc.uc_stack;
    *mask = uc.uc_sigmask;
    return 0;
}

void *ros_sigframe_native(struct ros_group *group, ros_sigset mask, uint64_t extra_flags)
{
    struct rt_sigframe *frame = (struct rt_sigframe *)group->native_frame;
    char *fpstate = (char *)ALIGN_UP((uint64_t)(frame + 1), XSAVE_ALIGN);
    memset(group->native_frame, 0, sizeof(group->native_frame));
    frame->uc.uc_flags = UC_FLAGS_FRAME;
    frame->uc.uc_sigmask = mask;
    frame->uc.uc_stack.ss_sp = (char *)group + GROUP_ALTSTACK;
    frame->uc.uc_stack.ss_size = GROUP_ALTSTACK_SIZE;
    context_from_frame(&frame->uc.uc_mcontext, group->frame);
    frame->uc.uc_mcontext.eflags |= extra_flags;
    frame->uc.uc_mcontext.fpstate = (void *)fpstate;
    memcpy(fpstate, group->xsave, HVM_XSAVE_BYTES);
    mark_xstate(fpstate);
    return &frame->uc; // where the stack pointer stands when a handler has returned
}

void ros_sigframe_from_native(struct ros_group *group, const struct ucontext *uc)
{
    frame_from_context(group->frame, &uc->uc_mcontext);
    const char *fpstate = (const char *)uc->uc_mcontext.fpstate;
    uint64_t features;
    memcpy(&features, fpstate + XSTATE_BV, sizeof(features));
    features &= xstate_features();
    if (!ros.hvm.limits.xcr0)
        features = XCR0_LEGACY;
    memset(group->xsave, 0, HVM_XSAVE_BYTES);
    memcpy(group->xsave, fpstate, xstate_size());
    set_features(group->xsave, features);
    group->xsave_place = XSAVE_IN_GROUP;
}
