#include "superposition/sigframe.h"

#include "aerokernel/cpu.h"
#include "base/string.h"

#define SA_RESTORER_FLAG 0x04000000ULL
#define FLAGS_RESTORED 0x050dd5ULL // what sigreturn takes: AC RF OF DF TF SF ZF AF PF CF
#define FLAGS_HANDLER (0x400ULL | 0x10000ULL | 0x100ULL) // cleared for a handler: DF RF TF
#define RED_ZONE 128
enum { SW_RESERVED = 464 };

void sf_context_from_state(struct sigcontext *to, const struct mv_frame *from)
{
    to->r8 = from->r8, to->r9 = from->r9, to->r10 = from->r10, to->r11 = from->r11;
    to->r12 = from->r12, to->r13 = from->r13, to->r14 = from->r14, to->r15 = from->r15;
    to->rdi = from->rdi, to->rsi = from->rsi, to->rbp = from->rbp, to->rbx = from->rbx;
    to->rdx = from->rdx, to->rax = from->rax, to->rcx = from->rcx, to->rsp = from->rsp;
    to->rip = from->rip, to->eflags = from->rflags;
    to->cs = AK_USER_CS;
    to->ss = AK_USER_SS;
}

void sf_state_from_context(struct mv_frame *to, const struct sigcontext *from)
{
    to->r8 = from->r8, to->r9 = from->r9, to->r10 = from->r10, to->r11 = from->r11;
    to->r12 = from->r12, to->r13 = from->r13, to->r14 = from->r14, to->r15 = from->r15;
    to->rdi = from->rdi, to->rsi = from->rsi, to->rbp = from->rbp, to->rbx = from->rbx;
    to->rdx = from->rdx, to->rax = from->rax, to->rcx = from->rcx, to->rsp = from->rsp;
    to->rip = from->rip;
    to->rflags = (to->rflags & ~FLAGS_RESTORED) | (from->eflags & FLAGS_RESTORED);
}

static bool is_within(const stack_t *stack, uint64_t sp)
{
    uint64_t base = (uint64_t)stack->ss_sp;
    return sp > base && sp - base <= stack->ss_size;
}

bool sf_on_altstack(const stack_t *stack, uint64_t sp)
{
    return !(stack->ss_flags & (int)SS_AUTODISARM) && is_within(stack, sp);
}

bool sf_find_place(uint64_t sp, const struct ros_sigaction *action, const stack_t *altstack,
                   const struct ak_xstate *xstate, struct sf_place *ret)
{
    uint64_t top = sp - RED_ZONE;
    bool nested = sf_on_altstack(altstack, sp);
    bool entering =
        action->flags & SA_ONSTACK && altstack->ss_size && !sf_on_altstack(altstack, top);
    if (entering)
        top = (uint64_t)altstack->ss_sp + altstack->ss_size;
    ret->fpstate = ALIGN_DOWN(top - xstate->size - SF_MAGIC2_BYTES, SF_XSTATE_ALIGN);
    ret->frame = ALIGN_DOWN(ret->fpstate - sizeof(struct sf_frame), 16) - 8;
    if ((nested || entering) && !is_within(altstack, ret->frame))
        return false;
    return action->flags & SA_RESTORER_FLAG;
}

void sf_mark_xstate(char *image, const struct ak_xstate *xstate)
{
    struct _fpx_sw_bytes sw = {.magic1 = FP_XSTATE_MAGIC1,
                               .extended_size = (uint32_t)(xstate->size + SF_MAGIC2_BYTES),
                               .xfeatures = xstate->features,
                               .xstate_size = (uint32_t)xstate->size};
    uint32_t magic2 = FP_XSTATE_MAGIC2;
    memcpy(image + SW_RESERVED, &sw, sizeof(sw));
    memcpy(image + xstate->size, &magic2, sizeof(magic2));
}

void sf_fill(struct sf_frame *frame, const struct mv_frame *state, const struct ros_signal *signal,
             const struct ros_sigaction *action, const stack_t *altstack, ros_sigset mask,
             uint64_t fpstate)
{
    struct sigcontext *context = &frame->uc.uc_mcontext;
    memset(frame, 0, sizeof(*frame));
    frame->restorer = action->restorer;
    frame->uc.uc_flags = SF_UC_FLAGS;
    frame->uc.uc_stack = *altstack;
    frame->uc.uc_sigmask = mask;
    sf_context_from_state(context, state);
    context->err = signal->error;
    context->trapno = signal->trapno;
    context->cr2 = signal->cr2;
    context->oldmask = mask;
    context->fpstate = (void *)fpstate;
    frame->info = signal->info;
}

void sf_enter(struct mv_frame *state, const struct ros_sigaction *action, int sig, uint64_t frame)
{
    state->rdi = (uint64_t)sig;
    state->rsi = frame + offsetof(struct sf_frame, info);
    state->rdx = frame + offsetof(struct sf_frame, uc);
    state->rax = 0;
    state->rsp = frame;
    state->rip = action->handler;
    state->rflags &= ~FLAGS_HANDLER;
}
