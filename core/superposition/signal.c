// Signals without leaving the HRT: a fault that Linux is known to answer with the signal enters the
// program's handler, and the handler's return is answered, by the AeroKernel. Garbage collectors
// take such faults by the million. Whatever is out of the ordinary is left to the ROS.

#include "superposition/signal.h"

#include <asm/unistd.h>

#include "abi/site.h"
#include "aerokernel/image.h"
#include "aerokernel/kernel.h"
#include "aerokernel/paging.h"
#include "aerokernel/platform.h"
#include "base/string.h"

#define FLAG_TF 0x100ULL
#define SW_RESERVED 464
// Error code of a page fault: an access to what is present or not, a write, from CPL 3. Other bits
// mean something that mprotect does not.
#define ERROR_PRESENT 1ULL
#define ERROR_WRITE 2ULL
#define ERROR_USER 4ULL
enum { VECTOR_PAGE_FAULT = 14 };

static const struct mv_signals *signals_of(const char *window)
{
    return (const struct mv_signals *)(window + AK_SIGNALS_OFFSET);
}

// Read SIGSEGV's action and the alternate stack. Returns false while the ROS changes them.
static bool read_action(const struct mv_signals *signals, struct ros_sigaction *action,
                        stack_t *altstack)
{
    uint32_t version = __atomic_load_n(&signals->version, __ATOMIC_ACQUIRE);
    *action = signals->segv;
    *altstack = signals->altstack;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return version % 2 == 0 && READ_ONCE(signals->version) == version;
}

// What the program's mask becomes while the handler runs is kept here only for signals that
// instructions raise; the others are the partner's, and a handler that blocks more of them than are
// blocked is the ROS's affair. Returns false for such.
static bool block(const struct mv_signals *signals, const struct ros_sigaction *action,
                  uint32_t *blocked_sync)
{
    ros_sigset added = action->mask & ~NEVER_BLOCKED;
    if (!(action->flags & SA_NODEFER))
        added |= SIGBIT(SIGSEGV);
    if (*blocked_sync & SIGBIT(SIGSEGV) || added & ~ROS_SYNC_SIGNALS & ~signals->mask)
        return false;
    *blocked_sync |= (uint32_t)(added & ROS_SYNC_SIGNALS);
    return true;
}

// True if an instruction that has made room for a rewritten site may have been executed at rip: the
// ROS knows where the program believes it to be.
static bool may_be_moved(uint64_t rip)
{
    return *(const uint32_t *)ALIGN_DOWN(rip, MV_STUB_BYTES) == MV_STUB_BEGIN;
}

bool ak_raise_segv(char *window)
{
    const struct mv_signals *signals = signals_of(window);
    struct mv_trap *trap = ak_trap(window);
    struct ak_xstate x = ak_platform_xstate(window);
    struct ros_sigaction action;
    stack_t altstack;
    struct sf_place place;
    if (!read_action(signals, &action, &altstack) || action.handler <= HANDLER_IGNORE ||
        action.flags & SA_RESETHAND || altstack.ss_flags & (int)SS_AUTODISARM ||
        trap->state.rflags & FLAG_TF || may_be_moved(trap->state.rip))
        return false;
    if (READ_ONCE(signals->deferred))
        return false;
    ros_sigset mask = signals->mask | trap->word.blocked_sync;
    uint32_t blocked_sync = trap->word.blocked_sync;
    if (!block(signals, &action, &blocked_sync) ||
        !sf_find_place(trap->state.rsp, &action, &altstack, &x, &place))
        return false;
    uint64_t size = place.fpstate + x.size + SF_MAGIC2_BYTES - place.frame;
    if (!range_is_lower_half(place.frame, size))
        return false;

    bool present = trap->error & ERROR_PRESENT;
    struct ros_signal signal = {.info = {.si_signo = SIGSEGV, .si_code = SEGV_ACCERR},
                                .trapno = VECTOR_PAGE_FAULT,
                                .error = ERROR_USER | (trap->error & ERROR_WRITE) |
                                         (present ? ERROR_PRESENT : 0),
                                .cr2 = trap->cr2};
    signal.info.si_addr = (void *)trap->cr2;
    char *image = (char *)place.fpstate;
    ak_xsave(image, &x);
    if (!x.fxsave_only)
        *(uint64_t *)(image + SF_XSTATE_BV) |= SF_X87_SSE; // as Linux says it, used or not
    sf_mark_xstate(image, &x);
    sf_fill((struct sf_frame *)place.frame, &trap->state, &signal, &action, &altstack, mask,
            place.fpstate);
    struct mv_frame *frame = ak_frame(window);
    memcpy(frame, &trap->state, MV_FRAME_STATE_BYTES);
    sf_enter(frame, &action, SIGSEGV, place.frame);
    trap->next = (struct mv_trap_word){.active = MV_TRAP_RESET, .blocked_sync = blocked_sync};
    return true;
}

// Load the extended state of a frame that is as we, or Linux, have made it. What is wrong with its
// contents the processor finds out.
static bool load_xstate(const char *window, uint64_t fpstate)
{
    struct ak_xstate x = ak_platform_xstate(window);
    const char *image = (const char *)fpstate;
    struct _fpx_sw_bytes sw;
    uint32_t magic2;
    if (!fpstate || fpstate % SF_XSTATE_ALIGN ||
        !range_is_lower_half(fpstate, x.size + SF_MAGIC2_BYTES))
        return false;
    memcpy(&sw, image + SW_RESERVED, sizeof(sw));
    memcpy(&magic2, image + x.size, sizeof(magic2));
    if (sw.magic1 != FP_XSTATE_MAGIC1 || magic2 != FP_XSTATE_MAGIC2 || sw.xstate_size != x.size ||
        sw.xfeatures != x.features)
        return false;
    ak_xrstor(image, &x);
    return true;
}

static bool same_stack(const stack_t *a, const stack_t *b)
{
    return a->ss_sp == b->ss_sp && a->ss_size == b->ss_size && a->ss_flags == b->ss_flags;
}

bool ak_sigreturn(char *window)
{
    const struct mv_signals *signals = signals_of(window);
    struct mv_trap *trap = ak_trap(window);
    struct mv_frame state = trap->state;
    uint64_t at = state.rsp - sizeof(uint64_t);
    struct ros_sigaction action;
    stack_t altstack;
    if (!range_is_lower_half(at, sizeof(struct sf_frame)) ||
        !read_action(signals, &action, &altstack) || READ_ONCE(signals->pending_sync) ||
        READ_ONCE(signals->deferred))
        return false;
    const struct sf_frame *frame = (const struct sf_frame *)at;
    ros_sigset mask = frame->uc.uc_sigmask & ~NEVER_BLOCKED;
    if ((mask & ~ROS_SYNC_SIGNALS) != signals->mask || !same_stack(&frame->uc.uc_stack, &altstack))
        return false;
    sf_state_from_context(&state, &frame->uc.uc_mcontext);
    // Behind a rewritten SYSCALL, whose jump continues in its stub, stands an invalid opcode.
    if (state.rip >= TASK_END || *(const uint8_t *)state.rip == MV_SITE_BEHIND ||
        state.rflags & FLAG_TF || !load_xstate(window, (uint64_t)frame->uc.uc_mcontext.fpstate))
        return false;
    memcpy(ak_frame(window), &state, MV_FRAME_STATE_BYTES);
    trap->next = (struct mv_trap_word){.active = MV_TRAP_NONE,
                                       .blocked_sync = (uint32_t)(mask & ROS_SYNC_SIGNALS)};
    return true;
}

// Go on behind the call that is being answered, with result 0.
static void succeed(char *window, uint32_t blocked_sync)
{
    struct mv_trap *trap = ak_trap(window);
    struct mv_frame *frame = ak_frame(window);
    memcpy(frame, &trap->state, MV_FRAME_STATE_BYTES);
    frame->rax = 0;
    trap->next = (struct mv_trap_word){.active = MV_TRAP_NONE, .blocked_sync = blocked_sync};
}

bool ak_mask_after(int how, ros_sigset set, ros_sigset *mask)
{
    switch (how) {
    case SIG_BLOCK:
        *mask |= set;
        return true;
    case SIG_UNBLOCK:
        *mask &= ~set;
        return true;
    case SIG_SETMASK:
        *mask = set;
        return true;
    default:
        return false;
    }
}

bool ak_sigprocmask(char *window)
{
    const struct mv_signals *signals = signals_of(window);
    const struct mv_trap *trap = ak_trap(window);
    const struct mv_frame *state = &trap->state;
    uint64_t set = state->rsi, old = state->rdx;
    if (state->r10 != sizeof(ros_sigset) || (set && !range_is_lower_half(set, sizeof(set))) ||
        (old && !range_is_lower_half(old, sizeof(old))) || READ_ONCE(signals->pending_sync))
        return false;
    ros_sigset native = signals->mask;
    ros_sigset before = native | (trap->word.blocked_sync & ROS_SYNC_SIGNALS), after = before;
    ros_sigset given = set ? READ_ONCE(*(const ros_sigset *)set) : 0;
    if (set && !ak_mask_after((int)state->rdi, given & ~NEVER_BLOCKED, &after))
        return false;
    if ((after & ~ROS_SYNC_SIGNALS) != native)
        return false;
    if (old)
        WRITE_ONCE(*(ros_sigset *)old, before);
    succeed(window, (uint32_t)(after & ROS_SYNC_SIGNALS));
    return true;
}

bool ak_set_robust_list(char *window)
{
    enum { HEAD_BYTES = 24 }; // struct robust_list_head
    const struct mv_trap *trap = ak_trap(window);
    uint64_t known = signals_of(window)->robust;
    if (!known || trap->state.rdi != known || trap->state.rsi != HEAD_BYTES)
        return false;
    succeed(window, trap->word.blocked_sync);
    return true;
}

unsigned ak_on_fault(char *window)
{
    struct mv_trap *trap = ak_trap(window);
    uint64_t address = trap->cr2;
    if (address >= TASK_END || trap->error & ~(ERROR_PRESENT | ERROR_WRITE | ERROR_USER))
        return AK_ANSWER_ROS;
    bool write = trap->error & ERROR_WRITE;
    struct mv_frame *frame = ak_frame(window);
    memcpy(frame, &trap->state, MV_FRAME_STATE_BYTES);
    if (ak_range_fault(window, frame, address, write) != AK_FAULT_OTHER) {
        trap->next = (struct mv_trap_word){.blocked_sync = trap->word.blocked_sync};
        return AK_ANSWER_FRAME;
    }
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    bool forbidden =
        ak_is_guarded(&paging, address, write) || ak_is_claimed(&paging, address, write);
    return forbidden && ak_raise_segv(window) ? AK_ANSWER_FRAME : AK_ANSWER_ROS;
}
