// The program's signal mask: in the partner, but for signals that instructions raise and for what
// an override module defers (ak_signal_mask()), which are in the window.

#include <asm/errno.h>
#include <asm/unistd.h>

#include "base/sys.h"
#include "ros/signal.h"

ros_sigset ros_blocked_sync(const struct ros_group *group)
{
    return READ_ONCE(group->trap->word.blocked_sync) & ROS_SYNC_SIGNALS;
}

void ros_set_blocked_sync(struct ros_group *group, ros_sigset mask)
{
    WRITE_ONCE(group->trap->word.blocked_sync, (uint32_t)(mask & ROS_SYNC_SIGNALS));
}

bool ros_signal_defers(const struct ros_group *group)
{
    return READ_ONCE(group->signals->deferred);
}

ros_sigset ros_signal_mask(const struct ros_group *group)
{
    ros_sigset mask = READ_ONCE(group->signals->deferred_mask) & ~NEVER_BLOCKED;
    if (ros_signal_defers(group))
        return (mask & ~ROS_SYNC_SIGNALS) | ros_blocked_sync(group);
    mask = 0;
    if (!READ_ONCE(group->signal_pending))
        sys4(__NR_rt_sigprocmask, SIG_SETMASK, 0, &mask, sizeof(mask));
    if (READ_ONCE(group->signal_pending)) // maybe only now, and what was read is closed
        mask = group->signal_mask;
    return (mask & ~ROS_SYNC_SIGNALS) | ros_blocked_sync(group);
}

// With a signal on its way, the partner's mask stays closed until it is delivered.
void ros_signal_set_mask(struct ros_group *group, ros_sigset mask)
{
    mask &= ~NEVER_BLOCKED;
    WRITE_ONCE(group->signals->deferred, 0);
    ros_set_blocked_sync(group, mask);
    ros_sigset native = mask & ~ROS_SYNC_SIGNALS;
    WRITE_ONCE(group->signals->mask, native);
    if (!ros_mask_asm(group, &native))
        group->signal_mask = mask;
}

bool ros_signal_block_all(struct ros_group *group)
{
    ros_sigset all = ~ROS_SYNC_SIGNALS;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all));
    group->restart_rax = group->frame->rax;
    return !READ_ONCE(group->signal_pending);
}

void ros_signal_settle_mask(struct ros_group *group)
{
    if (ros_signal_defers(group))
        ros_signal_set_mask(group, ros_signal_mask(group));
}

void ros_signal_defer_mask(struct ros_group *group, ros_sigset partner, ros_sigset mask)
{
    ros_signal_set_mask(group, partner);
    if (partner == mask)
        return;
    ros_set_blocked_sync(group, mask);
    WRITE_ONCE(group->signals->deferred_mask, mask & ~ROS_SYNC_SIGNALS);
    WRITE_ONCE(group->signals->deferred, 1);
}

// What Linux shall not deliver of ROS_SYNC_SIGNALS while a call is made: what the program blocks or
// ignores. Those by which the core stops and interrupts its threads stay open unless one that was
// sent waits.
static ros_sigset unwanted(const struct ros_group *group)
{
    ros_sigset set = ros_blocked_sync(group), stop = SIGBIT(SIGTRAP) | SIGBIT(ROS_SIGNAL_OWN);
    for (ros_sigset left = ROS_SYNC_SIGNALS; left; left &= left - 1)
        if (READ_ONCE(group->sighand->action[__builtin_ctzll(left) + 1].handler) == HANDLER_IGNORE)
            set |= left & -left;
    return set & (~stop | READ_ONCE(group->pending_sync));
}

int64_t ros_forward_blocking(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    ros_sigset more = group->poller ? 0 : unwanted(group); // no poller waits
    if (!more)
        return ros_forward(group, nr, args);
    ros_sigset mask = ros_signal_mask(group) & ~ROS_SYNC_SIGNALS, closed = mask | more;
    if (ros_mask_asm(group, &closed))
        ros_signal_give_back(group, more);
    int64_t result = ros_forward(group, nr, args);
    ros_mask_asm(group, &mask);
    return result;
}

int64_t ros_sys_sigprocmask(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)nr;
    ros_sigset set, old = ros_signal_mask(group), mask = old;
    if (args->a[3] != sizeof(set))
        return -EINVAL;
    if (args->a[1]) {
        if (ros_copy_in(&set, args->a[1], sizeof(set)))
            return -EFAULT;
        switch ((int)args->a[0]) {
        case SIG_BLOCK:
            mask |= set;
            break;
        case SIG_UNBLOCK:
            mask &= ~set;
            break;
        case SIG_SETMASK:
            mask = set;
            break;
        default:
            return -EINVAL;
        }
        if (!ros_signal_block_all(group))
            return ROS_INTERRUPTED;
        ros_signal_set_mask(group, mask);
    }
    if (args->a[2] && ros_copy_out(args->a[2], &old, sizeof(old)))
        return -EFAULT;
    return 0;
}

// Calls that wait with another mask: note it, since a handler that ends the wait runs with it.
int64_t ros_sys_sigwaiting(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    enum { ENTER_EXT_ARG = 8 }; // IORING_ENTER_EXT_ARG
    uint64_t set = 0;
    ros_sigset mask;
    switch (nr) {
    case __NR_rt_sigsuspend:
        set = args->a[0];
        break;
    case __NR_ppoll:
        set = args->a[3];
        break;
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
        set = args->a[4];
        break;
    case __NR_pselect6: // a structure of pointer and size
    case __NR_io_pgetevents:
        if (args->a[5] && ros_copy_in(&set, args->a[5], sizeof(set)))
            return -EFAULT;
        break;
    case __NR_io_uring_enter:
        set = args->a[4];
        if (args->a[3] & ENTER_EXT_ARG && ros_copy_in(&set, set, sizeof(set))) // of a structure
            set = 0;
        break;
    default:
        break;
    }
    if (set && ros_copy_in(&mask, set, sizeof(mask)) == 0) {
        group->temporary_mask = mask & ~NEVER_BLOCKED;
        group->has_temporary_mask = true;
    }
    int64_t result = ros_forward_blocking(group, nr, args);
    if (result != -EINTR || !group->signal_pending)
        group->has_temporary_mask = false;
    return result;
}
