// Native execution of program state on the partner: of one instruction (the paper's "replicates
// the access"), or from now on.

#include <asm/errno.h>
#include <asm/prctl.h>
#include <linux/mman.h>

#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "rewrite/near.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/debug.h"
#include "ros/signal.h"
#include "ros/state.h"
#include "ros/trace.h"

#define FLAG_TF 0x100ULL
#define FLAG_RF 0x10000ULL
enum { TRAPNO_DEBUG = 1 };

static void load_bases(const struct ros_group *group)
{
    // By system call: this works with and without FSGSBASE.
    sys2(__NR_arch_prctl, ARCH_SET_FS, group->fs_base);
    sys2(__NR_arch_prctl, ARCH_SET_GS, group->gs_base);
}

static int replicate(struct ros_group *group, struct ros_signal *ret)
{
    uint64_t tf = group->frame->rflags & FLAG_TF;
    if (ros_read_xsave(group)) {
        *ret = (struct ros_signal){.info = {.si_signo = SIGSEGV, .si_code = SI_KERNEL}};
        return SIGSEGV;
    }
    // Nothing but the instruction's own signals may come in between.
    ros_sigset program = ros_signal_mask(group), closed = ~ROS_SYNC_SIGNALS;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, 0, sizeof(closed));
    load_bases(group);
    group->replicate_result = ret;
    void *native = ros_sigframe_native(group, closed, FLAG_TF);
    int sig = mv_context_save(&group->replicate_context);
    if (!sig) {
        group->replicating = true;
        ros_native_enter(native);
    }
    // The state is now as Linux saw it; the trap flag was ours.
    group->frame->rflags = (group->frame->rflags & ~(FLAG_TF | FLAG_RF)) | tf;
    if (sig == SIGTRAP && ret->trapno == TRAPNO_DEBUG && ret->info.si_code == TRAP_TRACE)
        sig = 0;
    ros_signal_set_mask(group, program);
    return sig;
}

// Code of the AeroKernel or a module, which Linux does not have: a copy is executed.
static int replicate_copy(struct ros_group *group, struct ros_signal *ret)
{
    enum { INSTRUCTION_MAX = 15, CALL = 0xe8, JUMP = 0xe9 };
    uint8_t code[INSTRUCTION_MAX];
    uint64_t rip = group->frame->rip, pushed;
    *ret = (struct ros_signal){.info = {.si_signo = SIGSEGV, .si_code = SI_KERNEL}};
    if (!group->copied_code)
        group->copied_code = (uint64_t)mv_region_alloc(PAGE_SIZE);
    uint64_t copy = group->copied_code, size = ros_space_read_code(rip, code, sizeof(code));
    if (!copy || rw_protect(copy, PAGE_SIZE, PROT_READ | PROT_WRITE))
        return SIGSEGV;
    memcpy((void *)copy, code, size);
    if (rw_protect(copy, PAGE_SIZE, PROT_READ | PROT_EXEC))
        return SIGSEGV;
    group->frame->rip = copy;
    int sig = replicate(group, ret);
    // What the instruction has made of its own address.
    if (group->frame->rip - copy <= INSTRUCTION_MAX || code[0] == CALL || code[0] == JUMP)
        group->frame->rip += rip - copy;
    if (!sig && ros_copy_in(&pushed, group->frame->rsp, sizeof(pushed)) == 0 &&
        pushed - copy <= INSTRUCTION_MAX) {
        pushed += rip - copy;
        ros_copy_out(group->frame->rsp, &pushed, sizeof(pushed));
    }
    return sig;
}

int ros_replicate(struct ros_group *group, struct ros_signal *ret)
{
    return ros_space_is_kernel(group->frame->rip) ? replicate_copy(group, ret)
                                                  : replicate(group, ret);
}

void ros_replicate_caught(struct ros_group *group, const siginfo_t *info, struct ucontext *uc)
{
    group->replicating = false;
    *group->replicate_result = (struct ros_signal){.info = *info,
                                                   .trapno = uc->uc_mcontext.trapno,
                                                   .error = uc->uc_mcontext.err,
                                                   .cr2 = uc->uc_mcontext.cr2};
    // Also after a fault: a string instruction may have got some way, and a trap is behind it.
    ros_sigframe_from_native(group, uc);
    mv_context_restore(&group->replicate_context, info->si_signo);
}

void ros_leave(struct ros_group *group)
{
    ros_pollers_end();
    ros_watch_end();
    rw_disable();
    ros_override_leave();
    ros_debug_leave(group, true);
    ros_debug_forget(group);
    ros_sigset mask = ros_signal_mask(group), closed = ~0ULL;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, 0, sizeof(closed));
    ros_stats_finish();
    hvm_vcpu_close(&group->vcpu);
    hvm_close(&ros.hvm);
    ros_signal_to_native(group);
    load_bases(group);
    void *native = ros_sigframe_native(group, mask, 0);
    struct ucontext *uc = native;
    uc->uc_stack = group->altstack;
    ros_native_enter(native);
}
