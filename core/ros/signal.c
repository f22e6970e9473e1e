// Signals, both ways.
//
// The partner's signal mask is the program's (but for signals that instructions raise), and for
// every signal that the program handles, our handler is installed with the program's SA_RESTART:
// so Linux itself decides what is pending, who gets it and whether a system call restarts. Our
// handler takes one signal, blocks all others, and the partner's loop builds the program's frame.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>

#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "ros/channel.h"
#include "ros/crash.h"
#include "ros/debug.h"
#include "ros/signal.h"
#include "ros/trace.h"
#include "superposition/sigframe.h"

static bool is_sync(int sig)
{
    return SIGBIT(sig) & ROS_SYNC_SIGNALS;
}

unsigned ros_sync_index(int sig)
{
    unsigned index = 0;
    for (int below = 1; below < sig; below++)
        index += is_sync(below);
    return index;
}

static int native_action(int sig, const struct ros_sigaction *new, struct ros_sigaction *old)
{
    return (int)sys4(__NR_rt_sigaction, sig, new, old, sizeof(ros_sigset));
}

// With the lock of the dispositions held.
static void publish(struct ros_group *group)
{
    struct mv_signals *signals = group->signals;
    __atomic_store_n(&signals->version, signals->version | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    signals->segv = group->sighand->action[SIGSEGV];
    if (ros_debug_on()) // it has to be asked first
        signals->segv.handler = HANDLER_DEFAULT;
    signals->altstack = group->altstack;
    signals->xfeatures = ros.hvm.limits.xcr0;
    signals->xsave_size = ros.hvm.limits.xsave_size;
    __atomic_store_n(&signals->version, (signals->version | 1) + 1, __ATOMIC_RELEASE);
}

void ros_signal_publish(struct ros_group *group)
{
    mv_lock(&group->sighand->lock);
    publish(group);
    mv_unlock(&group->sighand->lock);
}

// An action has changed for all groups that share it. With its lock held.
static void publish_to_all(const struct ros_sighand *sighand)
{
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        struct ros_group *group = ros_group_at(i);
        if (READ_ONCE(group->busy) && group->sighand == sighand)
            publish(group);
    }
}

// ---- Linux to core -----------------------------------------------------------------------------

static bool in_range(uint64_t rip, const char *from, const char *to)
{
    return rip >= (uint64_t)from && rip < (uint64_t)to;
}

// True if the program blocks one of the synchronous signals.
static bool is_blocked(const struct ros_group *group, int sig)
{
    bool for_now = group->has_temporary_mask && !(group->temporary_mask & SIGBIT(sig));
    return ros_blocked_sync(group) & SIGBIT(sig) && !for_now;
}

// Somebody sent (not: raised) one of the synchronous signals, which has to wait.
static void hold_sync(struct ros_group *group, int sig, const siginfo_t *info)
{
    group->sync_info[ros_sync_index(sig)] = *info;
    __atomic_or_fetch(&group->pending_sync, SIGBIT(sig), __ATOMIC_RELAXED);
    // The AeroKernel may be about to unblock it, having seen that none is pending.
    WRITE_ONCE(group->signals->pending_sync, 1);
    if (group->vcpu.fd >= 0)
        hvm_kick(&group->vcpu);
}

void ros_signal_give_back(struct ros_group *group, ros_sigset set)
{
    for (ros_sigset left = READ_ONCE(group->pending_sync) & set; left; left &= left - 1) {
        int sig = __builtin_ctzll(left) + 1;
        __atomic_and_fetch(&group->pending_sync, ~SIGBIT(sig), __ATOMIC_RELAXED);
        sys4(__NR_rt_tgsigqueueinfo, group->id.pid, group->id.tid, sig,
             &group->sync_info[ros_sync_index(sig)]);
    }
    WRITE_ONCE(group->signals->pending_sync, group->pending_sync != 0);
}

bool ros_signal_to_another(const struct ros_group *self, const siginfo_t *info, bool open)
{
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        struct ros_group *group = ros_group_at(i);
        if (group != self && ros_group_runs(group) && group->id.pid == self->id.pid &&
            !(open && ros_blocked_sync(group) & SIGBIT(info->si_signo)) &&
            ros_signal_pass_on(group, info))
            return true;
    }
    return false;
}

void ros_interrupt_syscall(struct ucontext *uc)
{
    uint64_t rip = uc->uc_mcontext.rip;
    if (in_range(rip, ros_syscall_begin, ros_syscall_end))
        uc->uc_mcontext.rip = (uint64_t)ros_syscall_interrupted;
    if (in_range(rip, ros_mask_begin, ros_mask_end))
        uc->uc_mcontext.rip = (uint64_t)ros_mask_begin;
}

// What the process would do itself about one of the synchronous signals, where the core is only
// attached.
static struct ros_sigaction own_actions[ROS_SYNC_COUNT];

// A signal of a thread that is not in the HRT.
static void native_signal(int sig, siginfo_t *info, struct ucontext *uc)
{
    const struct ros_sigaction *action = &own_actions[ros_sync_index(sig)];
    if (action->handler > HANDLER_IGNORE) {
        ((void (*)(int, siginfo_t *, struct ucontext *))action->handler)(sig, info, uc);
        return;
    }
    if (action->handler == HANDLER_IGNORE && info->si_code <= 0)
        return;
    static const struct ros_sigaction fallback;
    native_action(sig, &fallback, NULL);
    if (info->si_code <= 0) // else the instruction raises it again
        sys3(__NR_tgkill, sys0(__NR_getpid), sys0(__NR_gettid), sig);
}

void ros_on_signal(int sig, siginfo_t *info, struct ucontext *uc)
{
    struct ros_group *group = ros_self();
    bool native = !mv_region_touches((uint64_t)__builtin_frame_address(0), 1);
    if (ros.attached && (native || group->calls_natively)) {
        native_signal(sig, info, uc);
        return;
    }
    struct sigcontext *regs = &uc->uc_mcontext;
    if (is_sync(sig) && info->si_code > 0) {
        if (group->replicating)
            ros_replicate_caught(group, info, uc);
        if (!in_range(regs->rip, ros_copy_begin, ros_copy_end))
            ros_crash_of_core(group, sig, info, uc);
        regs->rip = (uint64_t)ros_copy_fault;
        return;
    }
    ros_crash_signal(group, info);
    if (group->poller) {
        ros_poller_signal(group, info, uc);
        return;
    }
    if (ros_debug_kick(group, sig, info, uc))
        return;
    ros_interrupt_syscall(uc);
    if (ros_signal_take_passed_on(group, info)) {
        sig = info->si_signo;
    } else if (ros_watch_kicked(group, info)) {
        if (group->vcpu.fd >= 0)
            hvm_kick(&group->vcpu);
        return;
    }
    bool blocked = is_sync(sig) && is_blocked(group, sig);
    if (!blocked && is_sync(sig) && !ros_debug_on() &&
        READ_ONCE(group->sighand->action[sig].handler) == HANDLER_IGNORE) {
        group->unseen = true;
        return;
    }
    // Within this handler one of the other synchronous signals may come.
    if (blocked || READ_ONCE(group->signal_kept) ||
        __atomic_exchange_n(&group->signal_pending, 1, __ATOMIC_RELAXED)) {
        group->unseen = true;
        if (!blocked || info->si_code != SI_USER || !ros_signal_to_another(group, info, true))
            hold_sync(group, sig, info);
        return;
    }
    group->signal = (struct ros_signal){.info = *info};
    group->signal_mask = uc->uc_sigmask;
    uc->uc_sigmask = ~ROS_SYNC_SIGNALS;
    if (group->vcpu.fd >= 0)
        hvm_kick(&group->vcpu);
}

static const struct ros_sigaction *core_action(uint64_t program_flags)
{
    static struct ros_sigaction actions[2];
    bool restart = program_flags & SA_RESTART;
    actions[restart] = (struct ros_sigaction){.handler = (uint64_t)ros_signal_entry,
                                              .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG |
                                                       (restart ? SA_RESTART : 0),
                                              .restorer = (uint64_t)ros_restorer,
                                              .mask = ~ROS_SYNC_SIGNALS};
    return &actions[restart];
}

// The action that Linux shall have where the program wants `action`.
static struct ros_sigaction action_for_linux(int sig, const struct ros_sigaction *action)
{
    struct ros_sigaction native = *action;
    if (is_sync(sig) || action->handler > HANDLER_IGNORE)
        native = *core_action(action->flags);
    else if (action->handler == HANDLER_DEFAULT && ros_debug_takes_default(sig))
        native = *core_action(SA_RESTART);
    native.flags |= action->flags & (SA_NOCLDSTOP | SA_NOCLDWAIT);
    return native;
}

void ros_signal_init(struct ros_sighand *sighand)
{
    for (int sig = 1; sig <= ROS_SIGNALS; sig++) {
        struct ros_sigaction inherited = {0};
        native_action(sig, NULL, &inherited);
        sighand->action[sig] = inherited;
        // A handler is that of a process which goes on here: no other outlives an execve.
        struct ros_sigaction native = action_for_linux(sig, &inherited);
        if (inherited.handler > HANDLER_IGNORE || ros_debug_takes_default(sig))
            native_action(sig, &native, NULL);
    }
    ros_signal_reclaim(sighand);
}

void ros_signal_reclaim(const struct ros_sighand *sighand)
{
    for (int sig = 1; sig <= ROS_SIGNALS; sig++)
        if (is_sync(sig))
            native_action(sig, core_action(sighand->action[sig].flags), NULL);
}

void ros_signal_attach(void)
{
    for (int sig = 1; sig <= ROS_SIGNALS; sig++)
        if (is_sync(sig))
            native_action(sig, core_action(0), &own_actions[ros_sync_index(sig)]);
}

int ros_signal_detach(void)
{
    int err = 0;
    for (int sig = 1; sig <= ROS_SIGNALS; sig++) {
        struct ros_sigaction now = {0};
        if (!is_sync(sig))
            continue;
        native_action(sig, NULL, &now);
        if (now.handler == (uint64_t)ros_signal_entry)
            native_action(sig, &own_actions[ros_sync_index(sig)], NULL);
        else
            err = -EBUSY; // it may call ours in the end
    }
    return err;
}

void ros_signal_thread_init(struct ros_group *group)
{
    stack_t stack = {.ss_sp = (char *)group + GROUP_ALTSTACK, .ss_size = GROUP_ALTSTACK_SIZE};
    sys2(__NR_sigaltstack, &stack, 0);
    group->id.pid = (uint32_t)sys0(__NR_getpid);
    group->id.tid = (uint32_t)sys0(__NR_gettid);
}

// ---- Core to program ---------------------------------------------------------------------------

bool ros_signal_waiting(const struct ros_group *group)
{
    return READ_ONCE(group->signal_pending) ||
           (READ_ONCE(group->pending_sync) & ~ros_blocked_sync(group));
}

// Give a signal to Linux again: its disposition or mask has changed under way. For this thread, but
// if its mask was not the partner's: then natively another thread might have got it.
static void send_again(const struct ros_group *group, const siginfo_t *info)
{
    if (READ_ONCE(ros_space_control()->machine.defers_masks) && info->si_code != SI_TKILL)
        ros_signal_to_process(group, info);
    else
        sys4(__NR_rt_tgsigqueueinfo, group->id.pid, group->id.tid, info->si_signo, info);
}

int64_t ros_sys_signals_thread(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (nr != __NR_fcntl || (int)args->a[1] == F_SETOWN_EX)
        WRITE_ONCE(ros_space_control()->machine.defers_masks, 0);
    return ros_forward(group, nr, args);
}

// Such a descriptor shows what is pending for the thread that looks, so no poller may look.
int64_t ros_sys_signalfd(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    static const uint16_t looks[] = {__NR_poll, __NR_epoll_wait, __NR_epoll_pwait};
    struct mv_control *control = ros_space_control();
    for (unsigned i = 0; i < ARRAY_SIZE(looks); i++)
        __atomic_and_fetch(&control->route[looks[i]], (uint8_t)~MV_ROUTE_POLLER, __ATOMIC_RELAXED);
    return ros_forward(group, nr, args);
}

void ros_die_by_signal(int sig)
{
    struct ros_sigaction fallback = {.handler = HANDLER_DEFAULT};
    ros_sigset open = ~SIGBIT(sig);
    ros_stats_finish();
    ros_debug_exit((uint32_t)sig);
    native_action(sig, &fallback, NULL);
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &open, 0, sizeof(open));
    sys3(__NR_tgkill, sys0(__NR_getpid), sys0(__NR_gettid), sig);
    sys_exit_group(128 + sig);
}

// Take the next signal to deliver: as Linux does, first what instructions raise. Returns false if
// there is none after all.
static bool take(struct ros_group *group, struct ros_signal *ret, bool *asynchronous)
{
    ros_sigset ready = READ_ONCE(group->pending_sync) & ~ros_blocked_sync(group);
    *asynchronous = !ready && group->signal_pending;
    if (*asynchronous) {
        *ret = group->signal;
        hvm_unkick(&group->vcpu);
        return true;
    }
    if (!ready)
        return false;
    int sig = __builtin_ctzll(ready) + 1;
    *ret = (struct ros_signal){.info = group->sync_info[ros_sync_index(sig)]};
    __atomic_and_fetch(&group->pending_sync, ~SIGBIT(sig), __ATOMIC_RELAXED);
    WRITE_ONCE(group->signals->pending_sync, group->pending_sync != 0);
    return true;
}

static struct ros_sigaction action_of(struct ros_group *group, int sig)
{
    mv_lock(&group->sighand->lock);
    struct ros_sigaction action = group->sighand->action[sig];
    mv_unlock(&group->sighand->lock);
    return action;
}

static void set_default(struct ros_group *group, int sig)
{
    static const struct ros_sigaction fallback;
    struct ros_sigaction native = action_for_linux(sig, &fallback);
    mv_lock(&group->sighand->lock);
    if (!is_sync(sig))
        native_action(sig, &native, NULL);
    group->sighand->action[sig].handler = HANDLER_DEFAULT;
    if (sig == SIGSEGV)
        publish_to_all(group->sighand);
    mv_unlock(&group->sighand->lock);
}

static void force(struct ros_group *group, const struct ros_signal *signal, ros_sigset mask);

// Enter the program's handler. `mask`: the mask to return to; `blocked`: the mask in force now.
static void enter_handler(struct ros_group *group, const struct ros_signal *signal,
                          const struct ros_sigaction *action, ros_sigset mask, ros_sigset blocked)
{
    int sig = signal->info.si_signo;
    uint64_t begin = rdtsc(), rip = group->frame->rip;
    if (ros_sigframe_push(group, signal, action, mask)) {
        // As Linux: the frame does not fit, so SIGSEGV, and by default if it was SIGSEGV.
        struct ros_signal overflow = {.info = {.si_signo = SIGSEGV, .si_code = SI_KERNEL}};
        if (sig == SIGSEGV)
            set_default(group, SIGSEGV);
        force(group, &overflow, mask);
        return;
    }
    if (action->flags & SA_RESETHAND)
        set_default(group, sig);
    blocked |= action->mask | (action->flags & SA_NODEFER ? 0 : SIGBIT(sig));
    ros_signal_set_mask(group, blocked);
    ros_trace(&(struct ros_event){.kind = MV_TRACE_SIGNAL,
                                  .nr = (uint32_t)sig,
                                  .a = {action->handler, rip}},
              begin);
}

void ros_signal_deliver(struct ros_group *group)
{
    struct ros_signal signal;
    ros_sigset mask = ros_signal_mask(group);
    bool asynchronous;
    if (!take(group, &signal, &asynchronous))
        return;
    ros_sigset blocked = mask;
    if (group->has_temporary_mask)
        blocked = group->temporary_mask;
    group->has_temporary_mask = false;
    if (!ros_debug_offer(group, &signal)) {
        if (asynchronous)
            group->signal_pending = 0;
        ros_signal_set_mask(group, mask);
        return;
    }
    int sig = signal.info.si_signo;
    struct ros_sigaction action = action_of(group, sig);
    // Pending no more: ros_signal_set_mask() below opens the partner's mask again, unless what is
    // delivered was held back while an asynchronous one waits.
    if (asynchronous)
        group->signal_pending = 0;
    if (blocked & SIGBIT(sig)) {
        send_again(group, &signal.info); // blocked by a handler entered in between
        ros_signal_set_mask(group, mask);
    } else if (action.handler == HANDLER_IGNORE) {
        ros_signal_set_mask(group, mask);
    } else if (action.handler == HANDLER_DEFAULT) {
        if (is_sync(sig) || ros_debug_takes_default(sig))
            ros_die_by_signal(sig);
        send_again(group, &signal.info);
        ros_signal_set_mask(group, mask);
    } else {
        enter_handler(group, &signal, &action, mask, blocked);
    }
}

static void force(struct ros_group *group, const struct ros_signal *signal, ros_sigset mask)
{
    int sig = signal->info.si_signo;
    struct ros_sigaction action = action_of(group, sig);
    if (action.handler <= HANDLER_IGNORE || (mask & SIGBIT(sig)))
        ros_die_by_signal(sig);
    enter_handler(group, signal, &action, mask, mask);
}

void ros_signal_force(struct ros_group *group, const struct ros_signal *signal)
{
    struct ros_signal offered = *signal;
    if (ros_debug_offer(group, &offered))
        force(group, &offered, ros_signal_mask(group));
}

void ros_signal_to_native(struct ros_group *group)
{
    for (int sig = 1; sig <= ROS_SIGNALS; sig++)
        native_action(sig, &group->sighand->action[sig], NULL);
    sys2(__NR_sigaltstack, &group->altstack, 0);
}

// ---- System calls ------------------------------------------------------------------------------

int64_t ros_sys_sigaction(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)nr;
    int sig = (int)args->a[0];
    struct ros_sigaction new, old;
    if (args->a[3] != sizeof(ros_sigset) || sig < 1 || sig > ROS_SIGNALS)
        return -EINVAL;
    if (args->a[1] && ros_copy_in(&new, args->a[1], sizeof(new)))
        return -EFAULT;
    if (args->a[1] && (SIGBIT(sig) & NEVER_BLOCKED))
        return -EINVAL;
    mv_lock(&group->sighand->lock);
    old = group->sighand->action[sig];
    int err = 0;
    if (args->a[1]) {
        new.mask &= ~NEVER_BLOCKED;
        struct ros_sigaction native = action_for_linux(sig, &new);
        // The table is changed first, so that a handler that Linux calls at once is found.
        group->sighand->action[sig] = new;
        err = native_action(sig, &native, NULL);
        if (err)
            group->sighand->action[sig] = old;
        else if (new.handler == HANDLER_IGNORE)
            __atomic_and_fetch(&group->pending_sync, ~SIGBIT(sig), __ATOMIC_RELAXED); // on a poller
        if (sig == SIGSEGV)
            publish_to_all(group->sighand);
    }
    mv_unlock(&group->sighand->lock);
    if (!err && args->a[2] && ros_copy_out(args->a[2], &old, sizeof(old)))
        return -EFAULT;
    return err;
}

int64_t ros_sys_sigpending(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_sigset pending;
    int64_t result = ros_forward(group, nr, args);
    if (result || !group->pending_sync || args->a[1] != sizeof(pending))
        return result;
    if (ros_copy_in(&pending, args->a[0], sizeof(pending)))
        return -EFAULT;
    pending |= group->pending_sync;
    return ros_copy_out(args->a[0], &pending, sizeof(pending));
}

int ros_signal_set_altstack(struct ros_group *group, const stack_t *stack)
{
    stack_t new = *stack;
    int mode = new.ss_flags & ~(int)SS_FLAG_BITS;
    if (sf_on_altstack(&group->altstack, group->frame->rsp))
        return -EPERM;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
        return -EINVAL;
    if (mode != SS_DISABLE && new.ss_size < MINSIGSTKSZ)
        return -ENOMEM;
    if (mode == SS_DISABLE)
        new.ss_sp = NULL, new.ss_size = 0;
    group->altstack = new;
    ros_signal_publish(group);
    return 0;
}

int64_t ros_sys_sigaltstack(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)nr;
    stack_t new, old = group->altstack;
    if (args->a[0]) {
        if (ros_copy_in(&new, args->a[0], sizeof(new)))
            return -EFAULT;
        int err = ros_signal_set_altstack(group, &new);
        if (err)
            return err;
    }
    if (args->a[1]) {
        bool on_it = sf_on_altstack(&old, group->frame->rsp);
        int mode = !old.ss_size ? SS_DISABLE : on_it ? SS_ONSTACK : 0;
        old.ss_flags = mode | (old.ss_flags & (int)SS_FLAG_BITS);
        if (ros_copy_out(args->a[1], &old, sizeof(old)))
            return -EFAULT;
    }
    return 0;
}

int64_t ros_sys_sigreturn(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)nr, (void)args;
    ros_sigset mask;
    if (ros_sigframe_pop(group, &mask)) {
        struct ros_signal bad = {.info = {.si_signo = SIGSEGV, .si_code = SI_KERNEL}};
        ros_signal_force(group, &bad);
        return ROS_FRAME_SET;
    }
    ros_signal_set_mask(group, mask);
    return ROS_FRAME_SET;
}
