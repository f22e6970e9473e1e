#include "ros/debug.h"

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/socket.h>
#include <linux/time_types.h>

#include "base/fds.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "ros/state.h"

#define FLAG_TF 0x100ULL
enum { MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000 };

_Static_assert(sizeof(((struct mv_debug_group *)NULL)->registers) == MV_FRAME_STATE_BYTES,
               "debug.h");
_Static_assert(sizeof(((struct mv_debug_group *)NULL)->siginfo) == sizeof(siginfo_t), "debug.h");
_Static_assert((int)MV_DEBUG_XSAVE_BYTES == (int)HVM_XSAVE_BYTES, "debug.h");
_Static_assert((int)MV_DEBUG_GROUPS >= AK_WINDOWS_MAX, "debug.h");

static struct mv_debug *page; // NULL: this process is not debugged
static bool takes_defaults;   // of this process, or of one that it was forked from
static int debugger_fd = -1;  // the core's end of the socket
static uint32_t removing;     // somebody takes the breakpoints out, or has

// Signals whose default action is not to end the process.
#define HARMLESS                                                                                   \
    (SIGBIT(SIGCHLD) | SIGBIT(SIGCONT) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH) | SIGBIT(SIGTSTP) |     \
     SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU))
#define UNCATCHABLE (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))

int ros_debug_open(int file, int socket)
{
    uint64_t size = ALIGN_UP(sizeof(*page), PAGE_SIZE);
    uint64_t at = mv_region_reserve(size, PAGE_SIZE);
    if (!at)
        return -ENOMEM;
    uint64_t mapped = sys_mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    if (sys_failed(mapped))
        return (int)mapped;
    sys1(__NR_close, file);
    struct mv_debug *shared = (struct mv_debug *)mapped;
    if (shared->magic != MV_DEBUG_MAGIC || shared->version != MV_DEBUG_VERSION)
        return -EINVAL;
    // Where only parents may look at a process (Yama), or who is named.
    sys2(__NR_prctl, PR_SET_PTRACER, shared->debugger);
    mv_fd_own(&debugger_fd, socket);
    page = shared;
    takes_defaults = true;
    return 0;
}

void ros_debug_describe(uint64_t stack)
{
    page->pid = (uint32_t)sys0(__NR_getpid);
    page->ring = ros.ring;
    page->xcr0 = ros.hvm.limits.xcr0;
    page->xsave_bytes = (uint32_t)ros.hvm.limits.xsave_size;
    page->region_start = mv_region.start;
    page->region_end = mv_region.end;
    page->stack = stack;
    ros_space_describe(page);
    memcpy(page->program, ros.exe_path, sizeof(page->program));
}

bool ros_debug_on(void)
{
    return page != NULL;
}

bool ros_debug_takes_default(int sig)
{
    return (takes_defaults || ros_override_defers_masks()) &&
           !(SIGBIT(sig) & (HARMLESS | UNCATCHABLE | ROS_SYNC_SIGNALS));
}

static struct mv_debug_group *slot_of(const struct ros_group *group)
{
    return &page->group[group->vcpu.id];
}

// Returns false if there is no debugger any more.
static bool notify(void)
{
    char byte = 0;
    long n = sys6(__NR_sendto, debugger_fd, (uint64_t)&byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
    return n != -EPIPE && n != -ECONNRESET;
}

// ---- Breakpoints -------------------------------------------------------------------------------

// How many entries to look at.
static unsigned breakpoints(void)
{
    return page ? MIN(READ_ONCE(page->breakpoints), (uint32_t)MV_DEBUG_BREAKPOINTS) : 0;
}

bool ros_debug_is_breakpoint(uint64_t rip)
{
    for (unsigned i = 0; rip && i < breakpoints(); i++)
        if (READ_ONCE(page->breakpoint[i].address) == rip)
            return true;
    return false;
}

// Put back what breakpoints stand for, in this process's memory, whatever its protection.
static void remove_breakpoints(void)
{
    long fd = sys3(__NR_openat, AT_FDCWD, "/proc/self/mem", O_RDWR | O_CLOEXEC);
    for (unsigned i = 0; i < breakpoints(); i++) {
        const struct mv_debug_breakpoint *b = &page->breakpoint[i];
        uint8_t now;
        if (b->address && sys4(__NR_pread64, fd, &now, 1, b->host) == 1 && now == MV_DEBUG_OPCODE)
            sys4(__NR_pwrite64, fd, &b->original, 1, b->host);
    }
    sys1(__NR_close, fd);
}

// The debugger has died: the program goes on without it.
static void lose_debugger(void)
{
    WRITE_ONCE(page->attached, 0);
    WRITE_ONCE(page->stopping, 0);
    if (__atomic_exchange_n(&removing, 1, __ATOMIC_ACQ_REL))
        return;
    mv_error("run: the debugger's process has ended; the program goes on without it");
    remove_breakpoints();
    for (unsigned i = 0; i < breakpoints(); i++)
        WRITE_ONCE(page->breakpoint[i].address, 0);
}

// ---- Parking -----------------------------------------------------------------------------------

// The trap flag of a step is not the program's.
static void take_flag(struct ros_group *group, struct mv_frame *state)
{
    if (group->debug.stepping && group->debug.own_flag)
        state->rflags &= ~FLAG_TF;
}

static void wait_for_command(struct ros_group *group, struct mv_debug_group *slot)
{
    enum { LOOK_NS = 200000000 }; // how often to look whether the debugger is still there
    struct __kernel_timespec time = {.tv_nsec = LOOK_NS};
    while (__atomic_load_n(&slot->command, __ATOMIC_ACQUIRE) == MV_DEBUG_NOTHING) {
        long err = sys4(__NR_futex, &slot->command, FUTEX_WAIT, MV_DEBUG_NOTHING, &time);
        bool lost = err == -ETIMEDOUT && !notify();
        if (lost)
            lose_debugger();
        // Nobody has attached yet, and somebody wants the program to end.
        bool ended = READ_ONCE(group->signal_pending) && !READ_ONCE(page->attached);
        if (lost || ended) {
            WRITE_ONCE(slot->changed, 0);
            WRITE_ONCE(slot->command, MV_DEBUG_CONTINUE);
        }
    }
}

// Let the debugger have the group, whose state is `state`, until it says how to go on. signal: NULL
// unless one is to be delivered.
static void park(struct ros_group *group, struct mv_frame *state, enum mv_debug_reason reason,
                 struct ros_signal *signal)
{
    struct mv_debug_group *slot = slot_of(group);
    struct hvm_control control;
    take_flag(group, state);
    group->debug.stepping = false;
    WRITE_ONCE(group->debug_pending, 0);
    if (group->resume == ROS_CONTINUE) { // the bases are still the virtual CPU's
        struct hvm_state unused;
        ros_read_state(group, &unused, NULL);
        group->resume = ROS_LOAD;
    }
    hvm_vcpu_get_control(&group->vcpu, &control);
    memcpy(slot->registers, state, sizeof(slot->registers));
    slot->fs_base = group->fs_base;
    slot->gs_base = group->gs_base;
    slot->cr0 = control.cr0, slot->cr2 = control.cr2, slot->cr3 = control.cr3;
    slot->cr4 = control.cr4, slot->efer = control.efer;
    bool has_xsave = ros_read_xsave(group) == 0;
    if (has_xsave)
        memcpy(slot->xsave, group->xsave, sizeof(slot->xsave));
    slot->reason = reason;
    slot->signal = signal ? (uint32_t)signal->info.si_signo : 0;
    slot->changed = 0;
    if (signal)
        memcpy(slot->siginfo, &signal->info, sizeof(slot->siginfo));
    __atomic_store_n(&slot->state, MV_DEBUG_PARKED, __ATOMIC_RELEASE);
    notify();
    wait_for_command(group, slot);
    uint32_t command = READ_ONCE(slot->command), changed = READ_ONCE(slot->changed);
    if (changed & MV_DEBUG_CHANGED_REGISTERS) {
        memcpy(state, slot->registers, sizeof(slot->registers));
        group->fs_base = slot->fs_base;
        group->gs_base = slot->gs_base;
    }
    if (changed & MV_DEBUG_CHANGED_XSAVE && has_xsave) {
        memcpy(group->xsave, slot->xsave, sizeof(group->xsave));
        group->xsave_place = XSAVE_IN_GROUP;
    }
    if (command == MV_DEBUG_STEP) {
        group->debug.stepping = true;
        group->debug.step_from = state->rip;
        group->debug.own_flag = !(state->rflags & FLAG_TF);
    }
    uint32_t sent = signal ? 0 : READ_ONCE(slot->signal);
    if (sent && sent <= ROS_SIGNALS) {
        group->debug.unasked = sent;
        sys3(__NR_tgkill, group->id.pid, group->id.tid, sent);
    }
    WRITE_ONCE(slot->state, MV_DEBUG_RUNNING);
    __atomic_store_n(&slot->command, MV_DEBUG_NOTHING, __ATOMIC_RELEASE);
}

void ros_debug_settle(struct ros_group *group)
{
    if (!page)
        return;
    take_flag(group, group->frame);
    if (group->debug.stepping && group->frame->rip != group->debug.step_from) {
        // The step was a system call, was done by Linux, or has entered a handler.
        park(group, group->frame, MV_DEBUG_STEPPED, NULL);
    } else if (group->debug.stepping && group->resume == ROS_CONTINUE) {
        struct hvm_state unused; // the trap flag has to be loaded
        ros_read_state(group, &unused, NULL);
        group->resume = ROS_LOAD;
    }
    if (__atomic_exchange_n(&group->debug_pending, 0, __ATOMIC_ACQUIRE) &&
        READ_ONCE(page->stopping) && READ_ONCE(page->attached))
        park(group, group->frame, MV_DEBUG_TOLD, NULL);
}

bool ros_debug_breakpoint(struct ros_group *group)
{
    if (!ros_debug_is_breakpoint(group->frame->rip))
        return false;
    park(group, group->frame, MV_DEBUG_BREAKPOINT, NULL);
    return true;
}

void ros_debug_stepped(struct ros_group *group, bool complete)
{
    if (complete)
        park(group, group->frame, MV_DEBUG_STEPPED, NULL);
}

void ros_debug_kernel(struct ros_group *group, struct mv_frame *state, bool step)
{
    park(group, state, step ? MV_DEBUG_STEPPED : MV_DEBUG_BREAKPOINT, NULL);
}

bool ros_debug_kick(struct ros_group *group, int sig, const siginfo_t *info, struct ucontext *uc)
{
    if (!page || sig != SIGTRAP)
        return false;
    // Where the user may have no more signals queued, Linux forgets what was said of one.
    bool forgotten = info->si_code == SI_USER && !info->si_pid && READ_ONCE(page->stopping);
    bool ours = info->si_code == SI_QUEUE && info->si_int == MV_DEBUG_COOKIE;
    if (!ours && !forgotten)
        return false;
    WRITE_ONCE(group->debug_pending, 1);
    ros_interrupt_syscall(uc);
    if (group->vcpu.fd >= 0)
        hvm_kick(&group->vcpu);
    return true;
}

// ---- Signals and calls -------------------------------------------------------------------------

bool ros_debug_offer(struct ros_group *group, struct ros_signal *signal)
{
    int sig = signal->info.si_signo;
    bool cut_short = group->debug.call.cut_short;
    group->debug.call.cut_short = false;
    if (group->debug.unasked == (uint32_t)sig) {
        group->debug.unasked = 0;
        return true;
    }
    // A step that ends in a handler has to be told from one that does not.
    bool passed = page && READ_ONCE(page->passed) & SIGBIT(sig) && !group->debug.stepping;
    if (!page || !READ_ONCE(page->attached) || passed)
        return true;
    struct mv_frame *f = group->frame;
    uint64_t rip = f->rip, rax = f->rax;
    park(group, f, MV_DEBUG_SIGNAL, signal);
    uint32_t chosen = READ_ONCE(slot_of(group)->signal);
    if (chosen == 0 || chosen > ROS_SIGNALS) {
        // Without the signal, there was nothing that could have ended the call.
        if (cut_short && f->rip == rip && f->rax == rax && rip == group->debug.call.rip) {
            f->rip -= SYSCALL_BYTES;
            f->rax = group->debug.call.nr;
            group->debug.call.again = true;
        }
        return false;
    }
    if (chosen != (uint32_t)sig)
        *signal = (struct ros_signal){.info = {.si_signo = (int)chosen, .si_code = SI_USER}};
    return true;
}

static uint64_t now_ns(void)
{
    struct __kernel_timespec now = {0};
    sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

enum unit { NO_TIME, MILLISECONDS, TIMESPEC };

// Which argument of a call is a time from now on that Linux does not itself bring up to date.
static enum unit time_of(uint64_t nr, const struct ros_args *args, unsigned *at)
{
    enum { ABSOLUTE = 1, COMMAND = 127 };
    switch (nr) {
    case __NR_poll:
        *at = 2;
        return MILLISECONDS;
    case __NR_epoll_wait:
    case __NR_epoll_pwait:
        *at = 3;
        return MILLISECONDS;
    case __NR_nanosleep:
        *at = 0;
        return TIMESPEC;
    case __NR_clock_nanosleep:
        *at = 2;
        return args->a[1] & ABSOLUTE ? NO_TIME : TIMESPEC;
    case __NR_futex:
        *at = 3;
        return (args->a[1] & COMMAND) == FUTEX_WAIT ? TIMESPEC : NO_TIME;
    case __NR_rt_sigtimedwait:
        *at = 2;
        return TIMESPEC;
    case __NR_semtimedop:
    case __NR_epoll_pwait2:
        *at = 3;
        return TIMESPEC;
    case __NR_io_getevents:
        *at = 4;
        return TIMESPEC;
    default:
        return NO_TIME;
    }
}

// Take the time since the call first began from what it may wait.
static void shorten(uint64_t nr, struct ros_args *args, uint64_t elapsed,
                    struct __kernel_timespec *time)
{
    unsigned at = 0;
    enum unit unit = time_of(nr, args, &at);
    if (unit == MILLISECONDS && (int32_t)args->a[at] > 0) {
        uint64_t left = (uint32_t)args->a[at], gone = elapsed / 1000000;
        args->a[at] = left > gone ? left - gone : 0;
    }
    if (unit != TIMESPEC || !args->a[at] || ros_copy_in(time, args->a[at], sizeof(*time)) ||
        time->tv_sec < 0 || time->tv_sec > INT32_MAX || (uint64_t)time->tv_nsec >= 1000000000)
        return;
    uint64_t left = (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
    left = left > elapsed ? left - elapsed : 0;
    time->tv_sec = (int64_t)(left / 1000000000);
    time->tv_nsec = (int64_t)(left % 1000000000);
    args->a[at] = (uint64_t)time;
}

// True if Linux begins the call again after a handler that was installed with SA_RESTART.
static bool is_restarted(uint64_t nr, const struct ros_args *args)
{
    unsigned at;
    switch (nr) {
    case __NR_pause:
    case __NR_rt_sigsuspend:
    case __NR_ppoll:
    case __NR_select:
    case __NR_pselect6:
    case __NR_semop:
    case __NR_msgsnd:
    case __NR_msgrcv:
    case __NR_clock_nanosleep:
        return false;
    case __NR_futex:
        return !args->a[3];
    default:
        return time_of(nr, args, &at) == NO_TIME;
    }
}

// A call has been interrupted, so that the group can stop, but maybe also by a signal for the
// program: what would that alone have done?
static bool begins_again(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    if (!group->signal_pending)
        return true;
    const struct ros_sigaction *action = &group->sighand->action[group->signal.info.si_signo];
    return action->handler > HANDLER_IGNORE && action->flags & SA_RESTART && is_restarted(nr, args);
}

int64_t ros_debug_call(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    struct __kernel_timespec time;
    uint64_t rip = group->frame->rip, now = now_ns();
    bool again =
        group->debug.call.again && group->debug.call.nr == nr && group->debug.call.rip == rip;
    if (again)
        shorten(nr, args, now - group->debug.call.begin, &time);
    else
        group->debug.call.begin = now;
    group->debug.call.nr = nr;
    group->debug.call.rip = rip;
    group->debug.call.cut_short = false;
    int64_t result = ros_call(group, nr, args);
    bool told = READ_ONCE(group->debug_pending);
    // What was closed is closed, even if the call was interrupted.
    bool interrupted = result == -EINTR && nr != __NR_close;
    group->debug.call.again = (interrupted || result == ROS_INTERRUPTED) && told;
    group->debug.call.cut_short = interrupted && group->signal_pending;
    if (!interrupted || !told || !begins_again(group, nr, args))
        return result;
    group->debug.call.cut_short = false;
    group->restart_rax = nr;
    return ROS_INTERRUPTED;
}

// ---- Threads and processes ---------------------------------------------------------------------

void ros_debug_begin(struct ros_group *group)
{
    if (!page)
        return;
    struct mv_debug_group *slot = slot_of(group);
    bool first = slot->pid == 0 && group->vcpu.id == 0;
    group->debug.stepping = false;
    group->debug.unasked = 0;
    group->debug.call.again = group->debug.call.cut_short = false;
    slot->pid = group->id.pid;
    slot->tid = group->id.tid;
    slot->frame = (uint64_t)group->frame;
    slot->command = MV_DEBUG_NOTHING;
    uint32_t used = __atomic_load_n(&page->groups, __ATOMIC_RELAXED);
    while (used <= group->vcpu.id &&
           !__atomic_compare_exchange_n(&page->groups, &used, group->vcpu.id + 1, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    __atomic_store_n(&slot->state, MV_DEBUG_RUNNING, __ATOMIC_SEQ_CST);
    // Whoever stops all now either sees this thread, or is seen by it.
    WRITE_ONCE(group->debug_pending, __atomic_load_n(&page->stopping, __ATOMIC_SEQ_CST));
    if (first)
        park(group, group->frame, MV_DEBUG_START, NULL);
    else
        notify();
}

void ros_debug_end(const struct ros_group *group)
{
    if (!page)
        return;
    __atomic_store_n(&slot_of(group)->state, MV_DEBUG_ABSENT, __ATOMIC_RELEASE);
    notify();
}

static bool is_debugged_process(void)
{
    return page && (uint32_t)sys0(__NR_getpid) == page->pid;
}

void ros_debug_exit(uint32_t status)
{
    if (!is_debugged_process())
        return;
    page->status = status;
    __atomic_store_n(&page->ended, 1, __ATOMIC_RELEASE);
}

void ros_debug_leave(struct ros_group *group, bool leaving)
{
    enum { TRIES = 10000 }; // a debugger that dies does not say that it has sent it
    if (!page)
        return;
    if (is_debugged_process())
        __atomic_store_n(&page->left, leaving, __ATOMIC_SEQ_CST);
    else
        __atomic_store_n(&slot_of(group)->state, leaving ? MV_DEBUG_ABSENT : MV_DEBUG_RUNNING,
                         __ATOMIC_SEQ_CST);
    for (unsigned i = 0; leaving && i < TRIES && __atomic_load_n(&page->kicking, __ATOMIC_SEQ_CST);
         i++)
        sys0(__NR_sched_yield);
    if (!leaving && __atomic_load_n(&page->stopping, __ATOMIC_SEQ_CST))
        WRITE_ONCE(group->debug_pending, 1);
}

void ros_debug_forget(struct ros_group *group)
{
    if (!page)
        return;
    take_flag(group, group->frame);
    group->debug.stepping = false;
    WRITE_ONCE(group->debug_pending, 0);
    remove_breakpoints();
    page = NULL;
    mv_fd_close(&debugger_fd);
}
