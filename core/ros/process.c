// Threads and processes: clone, fork, vfork, execve, exit.

#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/stat.h>
#include <linux/time_types.h>

#include "base/fds.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "loader/elf.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/debug.h"
#include "ros/profile.h"
#include "ros/signal.h"
#include "ros/state.h"
#include "ros/trace.h"

#ifndef PR_SET_MDWE // Linux 6.3
#define PR_SET_MDWE 65
#endif

// A clone request in the terms of clone3, whichever call made it.
struct request {
    uint64_t nr;    // the call to make: clone or clone3
    uint64_t flags; // with the exit signal in the low byte for clone
    uint64_t stack; // the child's stack pointer, or 0: the parent's
    uint64_t tls;
    struct ros_args args;   // for clone
    struct clone_args wide; // for clone3
    uint64_t wide_size;
};

// What to ask Linux for. stack: where the child's ends, or 0: it is the parent's. wide: memory for
// clone3's arguments.
static struct ros_args native_args(const struct request *r, uint64_t stack, struct clone_args *wide)
{
    // The partner's FS base is not the program's: TLS goes to the virtual CPU.
    uint64_t no_tls = ~(uint64_t)CLONE_SETTLS;
    if (r->nr != __NR_clone3)
        return (struct ros_args){{r->flags & no_tls, stack, r->args.a[2], r->args.a[3]}};
    *wide = r->wide;
    wide->flags &= no_tls;
    wide->tls = 0;
    wide->stack = stack ? stack - KIB(16) : 0;
    wide->stack_size = stack ? KIB(16) : 0;
    return (struct ros_args){{(uint64_t)wide, r->wide_size}};
}

static void child_main(void *arg)
{
    struct ros_group *group = arg;
    ros_signal_thread_init(group);
    ros_signal_defer_mask(group, group->partner_mask, group->signal_mask);
    ros_signal_publish(group);
    ros_override_identify(group);
    ros_robust_begin(group, group->clone_flags);
    ros_loop(group);
}

// Give the child the state of the parent after the call, as Linux does.
static int copy_state(struct ros_group *parent, struct ros_group *child, const struct request *r)
{
    struct hvm_state state;
    ros_read_state(parent, &state, NULL);
    int err = ros_read_xsave(parent);
    if (err)
        return err;
    memcpy(child->xsave, parent->xsave, sizeof(child->xsave));
    child->xsave_place = XSAVE_IN_GROUP;
    uint64_t ring = child->frame->ring, sync = child->frame->sync;
    *child->frame = *parent->frame;
    child->frame->ring = ring;
    child->frame->sync = sync;
    child->frame->rax = 0;
    if (r->stack)
        child->frame->rsp = r->stack;
    child->fs_base = r->flags & CLONE_SETTLS ? r->tls : state.fs_base;
    child->gs_base = state.gs_base;
    child->resume = ROS_LOAD;
    return 0;
}

// True if pollers of the parent may act for the child.
static bool has_same_rights(const struct request *r)
{
    const uint64_t shared = CLONE_THREAD | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;
    const uint64_t other = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                           CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    // Of clone's flags the low byte is the exit signal.
    bool new_time = r->nr == __NR_clone3 && r->flags & CLONE_NEWTIME;
    return (r->flags & shared) == shared && !(r->flags & other) && !new_time;
}

// A child that shares the address space shares the VM: it gets a virtual CPU of its own.
static int64_t clone_shared(struct ros_group *group, struct request *r)
{
    struct ros_group *child;
    int err = ros_group_acquire(&child);
    if (err) {
        static uint32_t told;
        if (err == -EAGAIN && !__atomic_exchange_n(&told, 1, __ATOMIC_RELAXED))
            mv_error("run: new thread: no virtual CPU is left (limit %u); use fewer threads or "
                     "--hvm=off",
                     ros.hvm.limits.max_vcpus);
        return -EAGAIN;
    }
    bool own_actions = !(r->flags & CLONE_SIGHAND);
    if (own_actions)
        child->sighand = ros_sighand_copy(group->sighand);
    else
        __atomic_add_fetch(&group->sighand->users, 1, __ATOMIC_RELAXED),
            child->sighand = group->sighand;
    if (!child->sighand) {
        __atomic_store_n(&child->busy, 0, __ATOMIC_RELEASE);
        return -ENOMEM;
    }
    child->signal_pending = 0;
    child->debug_pending = 0;
    child->has_temporary_mask = false;
    child->replicating = false;
    child->clone_flags = r->flags;
    child->pending_sync = 0;
    child->trap->word = (struct mv_trap_word){0};
    child->trap->held = 0;
    ros_set_blocked_sync(child, ros_blocked_sync(group));
    child->signals->pending_sync = 0;
    ros_channel_begin(child, group, has_same_rights(r));
    child->private_files = !(r->flags & CLONE_FILES) || group->private_files;
    child->id.pid = r->flags & CLONE_THREAD ? group->id.pid : 0;
    child->altstack = (stack_t){.ss_flags = SS_DISABLE};
    if (r->flags & CLONE_VFORK)
        child->altstack = group->altstack;
    err = copy_state(group, child, r);
    // The child begins with everything blocked, so that no signal meets it half made.
    ros_sigset mask = ros_signal_mask(group), closed = ~ROS_SYNC_SIGNALS;
    ros_sigset partner = ros_signal_defers(group) ? READ_ONCE(group->signals->mask) : mask;
    child->signal_mask = mask;
    child->partner_mask = partner;
    if (!err) {
        struct clone_args wide;
        struct ros_args args = native_args(r, (uint64_t)child + GROUP_BLOCK, &wide);
        sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, 0, sizeof(closed));
        err = (int)mv_clone(r->nr, args.a, child_main, child);
        ros_signal_defer_mask(group, partner, mask);
    }
    if (err < 0) {
        ros_group_release(child);
    } else if ((r->flags & CLONE_VFORK) && READ_ONCE(child->busy)) {
        // The kernel has held us until the child called execve or ended: it is gone, but if it
        // did not end by our own exit path its group is still marked.
        ros_group_release(child);
    }
    return err;
}

// Save what is only in the virtual CPU, which is about to go.
static int save_state(struct ros_group *group)
{
    struct hvm_state state;
    ros_read_state(group, &state, NULL);
    return ros_read_xsave(group);
}

// Give the process a VM again, with this group alone in it, in the state that was saved.
static void make_vm(struct ros_group *group)
{
    int err = hvm_create(&ros.hvm);
    if (!err)
        err = ros_space_revive();
    if (!err)
        err = ros_group_revive(group);
    group->xsave_place = XSAVE_IN_GROUP;
    if (err)
        mv_die(MV_EXIT_FAILURE,
               "run: another virtual machine for the process: %s; run the program with --hvm=off",
               mv_strerror(err));
    group->resume = ROS_LOAD;
    ros_watch_begin();
}

// In a forked child: the VM belongs to the parent's address space, so it gets one of its own.
static void forked_child(struct ros_group *group)
{
    ros_signal_thread_init(group);
    ros_robust_begin(group, 0);
    ros_override_identify(group);
    ros_debug_forget(group);
    ros_groups_after_fork(group);
    ros_pollers_reset();
    ros_watch_forget();
    ros_channel_begin(group, NULL, true);
    hvm_close(&ros.hvm);
    make_vm(group);
    if (ros_stats())
        ros_stats_add(&ros_stats()->processes, 1);
    ros_profile_process();
    ros_profile_group(group);
}

// A child in memory of its own with its parent's descriptor table: what it opened there for a VM of
// its own, the parent could close, and nobody would close it at its end. It goes on natively.
_Noreturn static void leave_shared_files(struct ros_group *group)
{
    ros_signal_thread_init(group);
    ros_debug_forget(group);
    ros_pollers_reset();
    ros_watch_forget();
    mv_fds_forget();
    if (!ros.quiet)
        mv_error("run: child process: it shares the table of descriptors; it goes on natively");
    ros_leave(group);
}

// Held across a fork, so that the child finds nothing half changed by another thread.
static void lock_all(struct ros_group *group)
{
    ros_pollers_lock();
    rw_lock();
    ros_groups_lock();
    ros_space_lock();
    ros_sighands_lock();
    mv_lock(&group->sighand->lock);
    mv_fds_lock();
    mv_region_lock();
}

static void unlock_all(struct ros_group *group)
{
    mv_region_unlock();
    mv_fds_unlock();
    mv_unlock(&group->sighand->lock);
    ros_sighands_unlock();
    ros_space_unlock();
    ros_groups_unlock();
    rw_unlock();
    ros_pollers_unlock();
}

// The first of a forked child. What has come for the parent is not for it, and what comes for
// itself waits until it is whole. Returns the mask to go back to.
static ros_sigset begin_child(struct ros_group *group)
{
    ros_sigset mask = ros_signal_mask(group), closed = ~ROS_SYNC_SIGNALS;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, 0, sizeof(closed));
    group->pending_sync = 0;
    group->signals->pending_sync = 0;
    memset(group->passed_on, 0, sizeof(group->passed_on));
    return mask;
}

static int64_t clone_separate(struct ros_group *group, struct request *r)
{
    int64_t err = save_state(group);
    if (err)
        return err;
    uint64_t fs_base = group->fs_base;
    if (r->flags & CLONE_SETTLS)
        group->fs_base = r->tls;
    struct clone_args wide;
    struct ros_args args = native_args(r, 0, &wide);
    ros_override_close(group);
    lock_all(group);
    // Linux takes a while; a thread that blocked signals meanwhile would send them to others. One
    // that comes before is delivered first, so there is none on its way in the child.
    int64_t pid = ros_forward(group, r->nr, &args);
    ros_sigset mask = pid == 0 ? begin_child(group) : 0;
    unlock_all(group);
    ros_override_reopen();
    if (pid)
        group->fs_base = fs_base;
    if (pid == ROS_INTERRUPTED)
        group->restart_rax = group->frame->rax;
    if (pid)
        return pid;
    bool native = r->flags & CLONE_FILES;
    if (!native)
        forked_child(group);
    group->frame->rax = 0;
    if (r->stack)
        group->frame->rsp = r->stack;
    group->private_files = false;
    ros_signal_set_mask(group, mask);
    if (native)
        leave_shared_files(group);
    return ROS_FRAME_SET;
}

// Threads that have ended are still counted for a moment.
static void wait_until_alone(void)
{
    enum { TRIES = 1000, SLEEP_NS = 50000, LINKS_WITHOUT_THREADS = 2 };
    struct statx st;
    for (unsigned i = 0; i < TRIES; i++) {
        struct __kernel_timespec time = {.tv_nsec = SLEEP_NS};
        if (sys5(__NR_statx, AT_FDCWD, "/proc/self/task", 0, STATX_NLINK, &st) ||
            st.stx_nlink <= LINKS_WITHOUT_THREADS + 1)
            return;
        sys2(__NR_nanosleep, &time, 0);
    }
}

int64_t ros_call_alone(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    if (ros_groups_alive() > 1 || save_state(group))
        return ros_forward(group, nr, args);
    ros_pollers_end();
    ros_watch_end();
    hvm_vcpu_close(&group->vcpu);
    hvm_close(&ros.hvm);
    wait_until_alone();
    int64_t result = ros_forward(group, nr, args);
    make_vm(group);
    ros_pollers_reset();
    return result;
}

static int64_t do_clone(struct ros_group *group, struct request *r)
{
    // A signal that came in time is delivered before the call, as Linux does (ERESTARTNOINTR).
    if (group->signal_pending) {
        group->restart_rax = group->frame->rax;
        return ROS_INTERRUPTED;
    }
    if (!(r->flags & CLONE_THREAD))
        ros_signal_settle_mask(group);
    return r->flags & CLONE_VM ? clone_shared(group, r) : clone_separate(group, r);
}

int64_t ros_sys_clone(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    struct request r = {.nr = nr,
                        .flags = (uint32_t)args->a[0],
                        .stack = args->a[1],
                        .tls = args->a[4],
                        .args = *args};
    return do_clone(group, &r);
}

int64_t ros_sys_clone3(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    struct request r = {.nr = nr, .wide_size = args->a[1]};
    if (args->a[1] < CLONE_ARGS_SIZE_VER0)
        return -EINVAL;
    if (args->a[1] > sizeof(r.wide))
        return -E2BIG;
    if (ros_copy_in(&r.wide, args->a[0], args->a[1]))
        return -EFAULT;
    if ((r.wide.stack == 0) != (r.wide.stack_size == 0))
        return -EINVAL;
    r.flags = r.wide.flags;
    r.stack = r.wide.stack + r.wide.stack_size;
    r.tls = r.wide.tls;
    return do_clone(group, &r);
}

int64_t ros_sys_fork(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)args;
    struct request r = {.nr = __NR_clone, .flags = SIGCHLD};
    if (nr == __NR_vfork)
        r.flags |= CLONE_VM | CLONE_VFORK;
    return do_clone(group, &r);
}

// ---- execve ------------------------------------------------------------------------------------

// What a new program must find: the program's mask whole, and signals that it ignores ignored.
// The core's own handlers fall to the default by themselves.
static int64_t exec_forward(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    static const struct ros_sigaction ignore = {.handler = 1};
    ros_sigset whole = ros_signal_mask(group);
    ros_debug_leave(group, true);
    for (int sig = 1; sig <= ROS_SIGNALS; sig++)
        if ((SIGBIT(sig) & ROS_SYNC_SIGNALS) && group->sighand->action[sig].handler == 1)
            sys4(__NR_rt_sigaction, sig, &ignore, 0, sizeof(ros_sigset));
    if (ros_blocked_sync(group) && ros_mask_asm(group, &whole))
        ros_signal_give_back(group, ros_blocked_sync(group));
    ros_stats_finish();
    int64_t result = ros_forward(group, nr, args);
    ros_debug_leave(group, false);
    // Still here: the program goes on.
    ros_signal_reclaim(group->sighand);
    if (ros_blocked_sync(group))
        ros_signal_set_mask(group, whole);
    return result;
}

// True if the file is one that our own loader may start: readable, and without rights of its own.
static bool may_follow(const char *path)
{
    struct statx st;
    if (sys5(__NR_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &st) < 0)
        return false;
    return !(st.stx_mode & (S_ISUID | S_ISGID)) && S_ISREG(st.stx_mode) &&
           sys3(__NR_faccessat, AT_FDCWD, path, 5 /* R_OK | X_OK */) == 0;
}

enum { FOLLOW_CONFIG_MAX = KIB(13), KEY_MAX = 32 };
enum { FOLLOW_ARGS_MAX = 4000 }; // on the partner's stack; longer command lines run natively

// execve under --follow: the same core starts the new program. Returns what execve returned, or
// ROS_FRAME_SET if this program has to be started natively. All on the stack, since a vfork child
// that succeeds leaves everything else it took to its parent.
static int64_t follow(struct ros_group *group, struct ros_args *args)
{
    char path[LDR_PATH_MAX], config[FOLLOW_CONFIG_MAX];
    uint64_t argv[FOLLOW_ARGS_MAX + 4] = {(uint64_t)ros.core_path, (uint64_t)config,
                                          (uint64_t)path};
    if (ros_is_exe_link(args->a[0])) // the link will be the core's
        mv_format(path, sizeof(path), "%s", ros.exe_path);
    else if (ros_copy_string(path, args->a[0], sizeof(path)) < 0)
        return ROS_FRAME_SET;
    if (!may_follow(path))
        return ROS_FRAME_SET;
    unsigned n = 0;
    while (n < FOLLOW_ARGS_MAX && ros_copy_in(&argv[3 + n], args->a[1] + n * 8, 8) == 0 &&
           argv[3 + n])
        n++;
    if (!n || argv[3 + n])
        return ROS_FRAME_SET;
    struct ros_args own = {{(uint64_t)ros.core_path, (uint64_t)argv, args->a[2]}};
    char modules_key[KEY_MAX] = "", profile_key[KEY_MAX] = "";
    int modules = ros_override_file(), profile = ros_profile_inherit();
    if (modules >= 0)
        mv_format(modules_key, sizeof(modules_key), ",override=%d", modules);
    if (profile >= 0)
        mv_format(profile_key, sizeof(profile_key), ",profile=%d", profile);
    mv_format(config, sizeof(config), "%s%s%s", ros.config, modules_key, profile_key);
    sys3(__NR_fcntl, modules, F_SETFD, 0);
    int64_t result = exec_forward(group, __NR_execve, &own);
    sys3(__NR_fcntl, modules, F_SETFD, FD_CLOEXEC);
    if (profile >= 0)
        sys1(__NR_close, profile);
    return result;
}

int64_t ros_sys_execve(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (ros.follow) {
        int64_t result = follow(group, args);
        if (result != ROS_FRAME_SET)
            return result;
    }
    ros_replace_exe_link(args, 0);
    return exec_forward(group, nr, args);
}

int64_t ros_sys_execveat(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_replace_exe_link(args, 1);
    return exec_forward(group, nr, args);
}

// ---- exit and process attributes ---------------------------------------------------------------

// The event of a call that does not come back.
static void trace_exit(uint64_t nr, int status)
{
    ros_trace(&(struct ros_event){.kind = MV_TRACE_SYSCALL, .nr = (uint32_t)nr, .a = {status}},
              rdtsc());
    ros_stats_finish();
}

int64_t ros_sys_exit(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (!ros_signal_block_all(group))
        return ROS_INTERRUPTED;
    trace_exit(nr, (int)args->a[0]);
    ros_group_exit(group, (int)args->a[0]);
}

int64_t ros_sys_exit_group(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)group; // a vfork child's group is released by its parent
    trace_exit(nr, (int)args->a[0]);
    ros_debug_exit((uint32_t)(args->a[0] & 0xff) << 8);
    sys_exit_group((int)args->a[0]);
}

int64_t ros_sys_arch_prctl(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    struct hvm_state state;
    uint64_t value = args->a[1];
    switch ((int)args->a[0]) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
    case ARCH_GET_FS:
    case ARCH_GET_GS:
        break;
    case ARCH_REQ_XCOMP_PERM:
    case ARCH_REQ_XCOMP_GUEST_PERM:
        return -EOPNOTSUPP; // the HRT has no AMX
    default:
        return ros_forward(group, nr, args);
    }
    ros_read_state(group, &state, NULL);
    switch ((int)args->a[0]) {
    case ARCH_GET_FS:
        return ros_copy_out(value, &state.fs_base, sizeof(uint64_t));
    case ARCH_GET_GS:
        return ros_copy_out(value, &state.gs_base, sizeof(uint64_t));
    default:
        break;
    }
    if (value >= TASK_END)
        return -EPERM;
    bool is_fs = (int)args->a[0] == ARCH_SET_FS;
    hvm_vcpu_set_bases(&group->vcpu, is_fs ? value : state.fs_base,
                       ros_gs_base(group, is_fs ? state.gs_base : value));
    return 0;
}

// A system-call filter of the program's would also filter the partner's calls to the substrate,
// so a program that asks for one goes on natively from there.
static int64_t leave_for_seccomp(struct ros_group *group)
{
    if (ros_groups_alive() > 1)
        return -EINVAL; // as from a kernel without seccomp; the other threads cannot leave
    if (save_state(group))
        return -EIO;
    if (!ros.quiet)
        mv_error(
            "run: system-call filter: the program asks for one on itself; it goes on natively");
    group->frame->rip -= SYSCALL_BYTES; // natively, the call comes again
    ros_leave(group);
}

int64_t ros_sys_seccomp(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    bool query = args->a[0] == SECCOMP_GET_ACTION_AVAIL || args->a[0] == SECCOMP_GET_NOTIF_SIZES;
    return query ? ros_forward(group, nr, args) : leave_for_seccomp(group);
}

// Afterwards Linux lets nobody put rewritten sites back.
static int64_t deny_writing_code(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    bool rewriting = rw_disable();
    int64_t result = ros_forward(group, nr, args);
    if (result && rewriting)
        rw_enable();
    return result;
}

int64_t ros_sys_prctl(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    switch ((int)args->a[0]) {
    case PR_SET_SECCOMP:
        return leave_for_seccomp(group);
    case PR_SET_SYSCALL_USER_DISPATCH:
        return -EINVAL;
    case PR_SET_MDWE:
        return deny_writing_code(group, nr, args);
    default:
        return ros_forward(group, nr, args);
    }
}
