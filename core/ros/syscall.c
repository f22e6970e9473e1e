// System calls of the program: which are forwarded as they are, and which need the core's help.

#include <asm/errno.h>
#include <asm/unistd.h>

#include "ros/channel.h"
#include "ros/debug.h"
#include "ros/profile.h"
#include "ros/signal.h"
#include "ros/trace.h"

// Newer than the headers may be.
enum { NR_FUTEX_WAIT = 455, NR_FUTEX_REQUEUE = 456 };

// Calls that are not simply forwarded to Linux by the partner. Whatever is not here is.
static ros_handler *const handlers[] = {
    // Memory: the core's own region stays closed, execute permission is tracked.
    [__NR_mmap] = ros_sys_mmap,
    [__NR_munmap] = ros_sys_munmap,
    [__NR_mprotect] = ros_sys_mprotect,
    [__NR_pkey_mprotect] = ros_sys_mprotect,
    [__NR_mremap] = ros_sys_mremap,
    [__NR_brk] = ros_sys_brk,
    [__NR_shmat] = ros_sys_shmat,
    [__NR_shmdt] = ros_sys_shmdt,
    [__NR_madvise] = ros_sys_range,
    [__NR_mlock] = ros_sys_range,
    [__NR_remap_file_pages] = ros_sys_range,
    [__NR_pkey_alloc] = ros_sys_pkey_alloc,
    [__NR_userfaultfd] = ros_sys_userfaultfd,
    // Signals: dispositions, masks of instruction-raised signals and stacks are the core's.
    [__NR_rt_sigaction] = ros_sys_sigaction,
    [__NR_rt_sigprocmask] = ros_sys_sigprocmask,
    [__NR_rt_sigpending] = ros_sys_sigpending,
    [__NR_sigaltstack] = ros_sys_sigaltstack,
    [__NR_rt_sigreturn] = ros_sys_sigreturn,
    [__NR_rt_sigsuspend] = ros_sys_sigwaiting,
    [__NR_pselect6] = ros_sys_sigwaiting,
    [__NR_ppoll] = ros_sys_sigwaiting,
    [__NR_epoll_pwait] = ros_sys_sigwaiting,
    [__NR_epoll_pwait2] = ros_sys_sigwaiting,
    [__NR_io_pgetevents] = ros_sys_sigwaiting,
    [__NR_io_uring_enter] = ros_sys_sigwaiting,
    [__NR_signalfd] = ros_sys_signalfd,
    [__NR_signalfd4] = ros_sys_signalfd,
    // Threads and processes.
    [__NR_clone] = ros_sys_clone,
    [__NR_clone3] = ros_sys_clone3,
    [__NR_fork] = ros_sys_fork,
    [__NR_vfork] = ros_sys_fork,
    [__NR_execve] = ros_sys_execve,
    [__NR_execveat] = ros_sys_execveat,
    [__NR_exit] = ros_sys_exit,
    [__NR_exit_group] = ros_sys_exit_group,
    [__NR_arch_prctl] = ros_sys_arch_prctl,
    [__NR_prctl] = ros_sys_prctl,
    [__NR_seccomp] = ros_sys_seccomp,
    [__NR_unshare] = ros_sys_unshare,
    [__NR_setns] = ros_sys_setns,
    // State of the Linux thread that an HRT thread does not have.
    [__NR_rseq] = ros_sys_rseq,
    [__NR_set_robust_list] = ros_sys_set_robust_list,
    [__NR_modify_ldt] = ros_sys_absent,
    // Signals for one thread that do not look so.
    [__NR_rt_tgsigqueueinfo] = ros_sys_signals_thread,
    [__NR_timer_create] = ros_sys_signals_thread,
    [__NR_fcntl] = ros_sys_signals_thread,
    // Other ways to wait for a futex than futex(2).
    [__NR_io_uring_setup] = ros_sys_waits_unseen,
    [__NR_futex_waitv] = ros_sys_waits_unseen,
    [NR_FUTEX_WAIT] = ros_sys_waits_unseen,
    [NR_FUTEX_REQUEUE] = ros_sys_waits_unseen,
    [__NR_iopl] = ros_sys_forbidden,
    [__NR_ioperm] = ros_sys_forbidden,
    // Descriptors of the core, and the name of the program.
    [__NR_close] = ros_sys_close,
    [__NR_close_range] = ros_sys_close_range,
    [__NR_dup2] = ros_sys_dup2,
    [__NR_dup3] = ros_sys_dup2,
    [__NR_open] = ros_sys_path,
    [__NR_stat] = ros_sys_path,
    [__NR_access] = ros_sys_path,
    [__NR_openat] = ros_sys_path_at,
    [__NR_newfstatat] = ros_sys_path_at,
    [__NR_statx] = ros_sys_path_at,
    [__NR_faccessat] = ros_sys_path_at,
    [__NR_faccessat2] = ros_sys_path_at,
    [__NR_readlink] = ros_sys_readlink,
    [__NR_readlinkat] = ros_sys_readlinkat,
};

int64_t ros_call(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_handler *handler = nr < ARRAY_SIZE(handlers) ? handlers[nr] : NULL;
    if (nr == MV_NR_AEROKERNEL)
        handler = ros_sys_aerokernel;
    if (ros_names_own_descriptor(group, nr, args))
        return -EBADF;
    return handler ? handler(group, nr, args) : ros_forward_blocking(group, nr, args);
}

int64_t ros_forward(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    return ros_syscall_asm(group, nr, args->a);
}

int64_t ros_sys_absent(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)group, (void)nr, (void)args;
    return -ENOSYS;
}

// A C library that has restartable sequences on its native threads ends the program if a new thread
// gets none. One that is told so, but finds no CPU number, does without.
int64_t ros_sys_rseq(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)group, (void)nr, (void)args;
    return ros.attached ? 0 : -ENOSYS;
}

// From now on modules cannot know who waits for a futex.
int64_t ros_sys_waits_unseen(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    WRITE_ONCE(ros_space_control()->machine.unseen_waits, 1);
    return ros_forward(group, nr, args);
}

int64_t ros_sys_forbidden(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)group, (void)nr, (void)args;
    return -EPERM;
}

// True if a call does not depend on which signals its thread blocks, or looks itself.
static bool minds_no_mask(uint64_t nr)
{
    return nr == __NR_rt_sigprocmask || nr == __NR_clone || nr == __NR_clone3 ||
           nr == __NR_madvise || nr == __NR_exit;
}

void ros_syscall_dispatch(struct ros_group *group)
{
    struct mv_frame *frame = group->frame;
    // The kernel, too, looks at 32 bits of the number only.
    uint64_t nr = (uint32_t)READ_ONCE(frame->rax);
    struct ros_args args = {{frame->rdi, frame->rsi, frame->rdx, frame->r10, frame->r8, frame->r9}};
    if (ros_signal_waiting(group) || READ_ONCE(group->debug_pending)) {
        // The signal came first: the call begins after its handler.
        frame->rip -= SYSCALL_BYTES;
        return;
    }
    if (!minds_no_mask(nr))
        ros_signal_settle_mask(group);
    struct ros_event event = {.kind = MV_TRACE_SYSCALL,
                              .nr = (uint32_t)nr,
                              .a = {args.a[0], args.a[1], args.a[2], args.a[3]}};
    uint64_t begin = rdtsc();
    // A process that shares memory with the one that made it has no pollers, and maybe another
    // table of descriptors.
    bool rights = ros_route_changes_rights(nr, &args);
    ros_channel_left(group, nr, &args);
    if (ros_profile)
        ros_profile_call(group);
    group->unseen = false;
    int64_t result = ros_debug_on() ? ros_debug_call(group, nr, &args) : ros_call(group, nr, &args);
    if (result == -EINTR && group->unseen && !ros_signal_waiting(group)) {
        if (nr != __NR_close) {
            frame->rip -= SYSCALL_BYTES;
            return;
        }
        result = 0; // close(2): it is closed all the same, and the number may be another's by now
    }
    if (rights && group->rights)
        ros_channel_rights_changed(group);
    if (rights) {
        ros_override_identify(group);
        ros_watch_renew();
    }
    if (result == ROS_INTERRUPTED) {
        frame->rip -= SYSCALL_BYTES;
        frame->rax = group->restart_rax;
    } else if (result != ROS_FRAME_SET) {
        frame->rax = (uint64_t)result;
    }
    event.result = (int64_t)frame->rax;
    ros_trace(&event, begin);
}
