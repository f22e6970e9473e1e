// Which way a system call goes. The table below is the whole policy; docs/channel.md explains it.
// A call may go to a poller if it cannot wait for long, and if its result and its effect do not
// depend on which thread of the process makes it.

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/stat.h>
#include <linux/time.h>
#include <linux/time_types.h>
#include <linux/uio.h>

#include "base/string.h"
#include "base/sys.h"
#include "ros/channel.h"

enum rule {
    PARTNER, // whatever is not in the table
    ANY,
    OWN_STATE, // works on what the core keeps for the calling group, not on its thread
    TID,       // answered from what the core knows of the caller
    CLOCK,
    RUSAGE,
    RANDOM,
    PRLIMIT,
    PRCTL,
    FCNTL,
    IOCTL,
    FUTEX,
    ZERO_2, // the third argument is a timeout
    ZERO_3, // the fourth
    NO_MASK,
    PATH_0, // the first argument is a path
    PATH_1,
    OPEN,
    READ,
    WRITE,
    CLOSE,
    DIRECTORY,
};

static const char *const conditions[] = {
    [ANY] = "always",
    [OWN_STATE] = "always",
    [TID] = "always",
    [CLOCK] = "if the clock has a name of its own",
    [RUSAGE] = "if not for one thread",
    [RANDOM] = "if it takes no longer than an exit",
    [PRLIMIT] = "if nothing is set",
    [PRCTL] = "for PR_GET_THP_DISABLE, PR_SET_THP_DISABLE",
    [FCNTL] = "for flags and duplicates, not for locks",
    [IOCTL] = "for FIONREAD, TCGETS, TIOCGWINSZ",
    [FUTEX] = "if it wakes or requeues",
    [ZERO_2] = "if the timeout is 0",
    [ZERO_3] = "if the timeout is 0",
    [NO_MASK] = "if the timeout is 0 and there is no mask",
    [PATH_0] = "if the path is not below /proc/thread-self",
    [PATH_1] = "if the path is not below /proc/thread-self",
    [OPEN] = "of a file or a directory, without making or emptying it",
    [READ] = "from a file on a local disk if it takes no longer than an exit, or a pipe with "
             "something in it",
    [WRITE] = "to a file on a local disk if it takes no longer than an exit, or up to 4096 bytes "
              "to a pipe with room",
    [CLOSE] = "of a file or a directory on a local disk, or a pipe",
    [DIRECTORY] = "of a directory on a local disk",
};

static const uint8_t rules[MV_ROUTES] = {
    // Identity of the process, and what it inherited.
    [__NR_getpid] = ANY,
    [__NR_gettid] = TID,
    [__NR_getppid] = ANY,
    [__NR_getpgrp] = ANY,
    [__NR_getpgid] = ANY,
    [__NR_getsid] = ANY,
    [__NR_getuid] = ANY,
    [__NR_geteuid] = ANY,
    [__NR_getresuid] = ANY,
    [__NR_getgid] = ANY,
    [__NR_getegid] = ANY,
    [__NR_getresgid] = ANY,
    [__NR_getgroups] = ANY,
    [__NR_uname] = ANY,
    [__NR_sysinfo] = ANY,
    [__NR_getcwd] = ANY,
    [__NR_getrandom] = RANDOM,
    [__NR_prlimit64] = PRLIMIT,
    [__NR_getrlimit] = ANY,
    // Time.
    [__NR_clock_gettime] = CLOCK,
    [__NR_clock_getres] = CLOCK,
    [__NR_gettimeofday] = ANY,
    [__NR_time] = ANY,
    [__NR_times] = ANY,
    [__NR_getrusage] = RUSAGE,
    // Memory of the process.
    [__NR_mmap] = ANY,
    [__NR_munmap] = ANY,
    [__NR_mprotect] = ANY,
    [__NR_mremap] = ANY,
    [__NR_madvise] = ANY,
    [__NR_mincore] = ANY,
    [__NR_prctl] = PRCTL,
    [__NR_brk] = ANY,
    // Files and descriptors.
    [__NR_lseek] = ANY,
    [__NR_fstat] = ANY,
    [__NR_stat] = PATH_0,
    [__NR_lstat] = PATH_0,
    [__NR_access] = PATH_0,
    [__NR_readlink] = PATH_0,
    [__NR_newfstatat] = PATH_1,
    [__NR_statx] = PATH_1,
    [__NR_faccessat] = PATH_1,
    [__NR_faccessat2] = PATH_1,
    [__NR_readlinkat] = PATH_1,
    [__NR_openat] = OPEN,
    [__NR_getdents64] = DIRECTORY,
    [__NR_read] = READ,
    [__NR_pread64] = READ,
    [__NR_write] = WRITE,
    [__NR_pwrite64] = WRITE,
    [__NR_close] = CLOSE,
    [__NR_dup] = ANY,
    [__NR_fcntl] = FCNTL,
    [__NR_ioctl] = IOCTL,
    [__NR_pipe] = ANY,
    [__NR_pipe2] = ANY,
    [__NR_eventfd2] = ANY,
    [__NR_epoll_create1] = ANY,
    [__NR_epoll_ctl] = ANY,
    [__NR_epoll_wait] = ZERO_3,
    [__NR_epoll_pwait] = NO_MASK,
    [__NR_poll] = ZERO_2,
    // Between threads.
    [__NR_futex] = FUTEX,
    // Signals, as far as the core keeps them.
    [__NR_rt_sigaction] = OWN_STATE,
    [__NR_sigaltstack] = OWN_STATE,
    // Answered without Linux.
    [__NR_rseq] = ANY,
    [__NR_modify_ldt] = ANY,
    [__NR_iopl] = ANY,
    [__NR_ioperm] = ANY,
    [__NR_pkey_alloc] = ANY,
};

#define TRANSFER_MAX KIB(256) // what is larger would keep a poller from others
#define PIPE_ATOMIC 4096      // PIPE_BUF: written whole or not at all

// Bytes that a poller moves, or Linux makes at random, in an exit's time. What is more is better
// left to the partner: the program would have to leave anyway, and what another core has written
// it reads more slowly.
static uint64_t moved_in_exit, made_in_exit;

void ros_route_init(uint64_t exit_cycles)
{
    moved_in_exit = exit_cycles * 5 / 2;
    made_in_exit = exit_cycles / 8;
}

const char *ros_route(uint64_t nr)
{
    return nr < MV_ROUTES ? conditions[rules[nr]] : NULL;
}

bool ros_route_may_wait(uint64_t nr)
{
    enum rule rule = nr < MV_ROUTES ? rules[nr] : PARTNER;
    return rule != ANY && rule != OWN_STATE && rule != TID;
}

// ---- Kinds of descriptors ----------------------------------------------------------------------

// What a descriptor leads to, remembered until a call may have changed it. A kind that is out of
// date (a descriptor closed behind our back, by io_uring say) costs time, not correctness: pipes
// are asked not to wait, and a poller that waits can be interrupted.
enum kind { KIND_UNKNOWN, KIND_FILE, KIND_PIPE, KIND_PROC, KIND_OTHER };
enum { KINDS_MAX = 1024 };
static uint8_t kinds[KINDS_MAX];

void ros_route_forget(uint64_t first, uint64_t last)
{
    for (uint64_t fd = first; fd <= last && fd < KINDS_MAX; fd++)
        WRITE_ONCE(kinds[fd], KIND_UNKNOWN);
}

static enum kind kind_of_file(uint64_t fd)
{
    enum { XFS = 0x58465342 };
    struct {
        int64_t type;
        char rest[256];
    } fs;
    if (sys2(__NR_fstatfs, fd, &fs))
        return KIND_OTHER;
    switch (fs.type) {
    case EXT4_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case SQUASHFS_MAGIC:
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
    case XFS:
        return KIND_FILE;
    case PROC_SUPER_MAGIC:
        return KIND_PROC;
    default:
        return KIND_OTHER; // over a network, in a user's process, or made by the kernel as it is
                           // read
    }
}

// /dev/null, zero, full, random, urandom: major 1, and nothing to wait for.
static bool is_memory_device(const struct statx *st)
{
    return st->stx_rdev_major == 1 &&
           (st->stx_rdev_minor == 3 || (st->stx_rdev_minor >= 5 && st->stx_rdev_minor <= 9));
}

static enum kind find_kind(uint64_t fd)
{
    struct statx st;
    if (sys5(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st))
        return KIND_UNKNOWN;
    if (S_ISFIFO(st.stx_mode))
        return KIND_PIPE;
    if (S_ISREG(st.stx_mode) || S_ISDIR(st.stx_mode))
        return kind_of_file(fd);
    return S_ISCHR(st.stx_mode) && is_memory_device(&st) ? KIND_FILE : KIND_OTHER;
}

static enum kind kind_of(uint64_t fd)
{
    if (fd >= KINDS_MAX)
        return find_kind(fd);
    if (kinds[fd] == KIND_UNKNOWN)
        WRITE_ONCE(kinds[fd], find_kind(fd));
    return READ_ONCE(kinds[fd]);
}

// ---- On a poller -------------------------------------------------------------------------------

// A signal that a failed write raised belongs to the thread that wrote: take it away from the
// poller; the partner will write, fail and raise it again. Linux looks at a thread's own signals
// before those of the process.
static void discard_write_signal(int64_t result)
{
    ros_sigset set = SIGBIT(result == -EPIPE ? SIGPIPE : SIGXFSZ);
    struct __kernel_timespec now = {0};
    struct rlimit64 limit = {0};
    sys4(__NR_prlimit64, 0, RLIMIT_FSIZE, 0, &limit);
    if (result == -EPIPE || limit.rlim_cur != RLIM64_INFINITY) // else the file system's own limit
        sys4(__NR_rt_sigtimedwait, &set, 0, &now, sizeof(set));
}

static int64_t pipe_transfer(uint64_t nr, const struct ros_args *args)
{
    struct iovec iov = {.iov_base = (void *)args->a[1], .iov_len = args->a[2]};
    if (nr == __NR_write && args->a[2] > PIPE_ATOMIC)
        return ROS_REFUSED;
    if (nr != __NR_read && nr != __NR_write)
        return ROS_REFUSED;
    int64_t result = sys6(nr == __NR_read ? __NR_preadv2 : __NR_pwritev2, args->a[0],
                          (uint64_t)&iov, 1, ~0ULL, ~0ULL, RWF_NOWAIT);
    if (result == -EPIPE)
        discard_write_signal(result);
    if (result == -EOPNOTSUPP && args->a[0] < KINDS_MAX)
        WRITE_ONCE(kinds[args->a[0]], KIND_OTHER);
    bool done = result >= 0 || result == -EFAULT || result == -EBADF;
    return done ? result : ROS_REFUSED;
}

// `kind`: of the descriptor.
static bool transfer_may(enum kind kind, const struct ros_args *args)
{
    return args->a[2] <= TRANSFER_MAX &&
           (kind == KIND_PIPE || (kind == KIND_FILE && args->a[2] <= moved_in_exit));
}

static int64_t transfer(struct ros_group *poller, uint64_t nr, const struct ros_args *args)
{
    enum kind kind = kind_of((uint32_t)args->a[0]);
    if (!transfer_may(kind, args))
        return ROS_REFUSED;
    if (kind == KIND_PIPE)
        return pipe_transfer(nr, args);
    int64_t result = ros_forward(poller, nr, args);
    if (result != -EFBIG && result != -EPIPE)
        return result;
    discard_write_signal(result);
    return ROS_REFUSED;
}

// "/proc/thread-self" is another directory for every thread.
static bool is_own_path(uint64_t path)
{
    static const char own[] = "thread-self";
    char text[256];
    int64_t length = ros_copy_string(text, path, sizeof(text));
    if (length < 0)
        return false;
    for (int64_t i = 0; i + (int64_t)sizeof(own) - 1 <= length; i++)
        if (memcmp(text + i, own, sizeof(own) - 1) == 0)
            return false;
    return true;
}

// Opening a FIFO waits for its other end, opening a device for whatever its driver likes, and a
// terminal may become that of the session. What takes its place after we have looked costs time,
// not correctness: a poller that waits can be interrupted.
static bool open_may(const struct ros_args *args)
{
    uint32_t flags = (uint32_t)args->a[2];
    if (flags & (O_CREAT | O_TRUNC | __O_TMPFILE) || !is_own_path(args->a[1]))
        return false;
    struct statx st;
    int64_t err = sys5(__NR_statx, args->a[0], args->a[1],
                       flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0, STATX_TYPE, &st);
    if (err)
        return err == -ENOENT || err == -ENOTDIR; // and so it will be for open
    return S_ISREG(st.stx_mode) || S_ISDIR(st.stx_mode);
}

static bool fcntl_may(uint64_t command)
{
    switch ((uint32_t)command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_GETFD:
    case F_SETFD:
    case F_GETFL:
    case F_SETFL:
        return true;
    default:
        return false;
    }
}

static bool ioctl_may(uint64_t request)
{
    return (uint32_t)request == FIONREAD || (uint32_t)request == TCGETS ||
           (uint32_t)request == TIOCGWINSZ;
}

static bool futex_may(uint64_t operation)
{
    switch ((uint32_t)operation & ~(uint32_t)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)) {
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_WAKE_OP:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
        return true;
    default:
        return false;
    }
}

static bool clock_may(uint64_t clock)
{
    return (int32_t)clock >= 0; // else it may be that of a process or thread, named relative to us
}

static bool arguments_may(enum rule rule, const struct ros_args *args)
{
    switch (rule) {
    case ANY:
    case OWN_STATE:
        return true;
    case CLOCK:
        return clock_may(args->a[0]);
    case RUSAGE:
        return (int32_t)args->a[0] != RUSAGE_THREAD;
    case RANDOM:
        return args->a[1] <= made_in_exit;
    case PRLIMIT:
        return args->a[2] == 0;
    case PRCTL: // what is the memory's, not the thread's
        return (int32_t)args->a[0] == PR_GET_THP_DISABLE ||
               (int32_t)args->a[0] == PR_SET_THP_DISABLE;
    case FCNTL:
        return fcntl_may(args->a[1]);
    case IOCTL:
        return ioctl_may(args->a[1]);
    case FUTEX:
        return futex_may(args->a[1]);
    case ZERO_2:
        return (int32_t)args->a[2] == 0;
    case ZERO_3:
        return (int32_t)args->a[3] == 0;
    case NO_MASK:
        return (int32_t)args->a[3] == 0 && args->a[4] == 0;
    case PATH_0:
        return is_own_path(args->a[0]);
    case PATH_1:
        return is_own_path(args->a[1]);
    case OPEN:
        return open_may(args);
    case DIRECTORY:
        return args->a[2] <= TRANSFER_MAX && kind_of((uint32_t)args->a[0]) == KIND_FILE;
    case READ:
    case WRITE:
        return transfer_may(kind_of((uint32_t)args->a[0]), args);
    case CLOSE:
        return kind_of((uint32_t)args->a[0]) == KIND_FILE ||
               kind_of((uint32_t)args->a[0]) == KIND_PIPE;
    default:
        return false;
    }
}

bool ros_route_may(uint64_t nr, const struct ros_args *args)
{
    enum rule rule = nr < MV_ROUTES ? rules[nr] : PARTNER;
    bool path = rule == OPEN || rule == PATH_0 || rule == PATH_1;
    return rule == TID || path || arguments_may(rule, args);
}

// The clock of the processor time of another thread, as pthread_getcpuclockid(3) makes it.
static uint64_t clock_of_thread(uint32_t tid)
{
    enum { PER_THREAD = 4, SCHEDULED = 2 };
    return (uint32_t)(~tid << 3) | PER_THREAD | SCHEDULED;
}

int64_t ros_route_call(struct ros_group *poller, struct ros_group *caller, uint64_t nr,
                       struct ros_args *args)
{
    enum rule rule = nr < MV_ROUTES ? rules[nr] : PARTNER;
    if (rule == TID)
        return caller->id.tid;
    int64_t result;
    if (rule != READ && rule != WRITE && !arguments_may(rule, args))
        return ROS_REFUSED;
    if (rule == CLOCK && (int32_t)args->a[0] == CLOCK_THREAD_CPUTIME_ID)
        args->a[0] = clock_of_thread(caller->id.tid);
    if (rule == READ || rule == WRITE)
        result = transfer(poller, nr, args);
    else
        result = ros_call(rule == OWN_STATE ? caller : poller, nr, args);
    // Interrupted for the partner's sake: nothing has happened yet. Close is the exception.
    bool interrupted = result == ROS_INTERRUPTED || (result == -EINTR && rule != CLOSE);
    return interrupted ? ROS_REFUSED : result;
}

// ---- Rights ------------------------------------------------------------------------------------

// Options of prctl(2) that leave alone what a poller may do, or how Linux sees it.
static bool prctl_is_harmless(uint64_t option)
{
    switch ((int32_t)option) {
    case PR_GET_DUMPABLE:
    case PR_GET_NAME:
    case PR_SET_NAME:
    case PR_GET_PDEATHSIG:
    case PR_SET_PDEATHSIG:
    case PR_SET_VMA:
    case PR_GET_TIMERSLACK:
    case PR_SET_TIMERSLACK:
    case PR_GET_NO_NEW_PRIVS:
    case PR_GET_SECCOMP:
    case PR_CAPBSET_READ:
    case PR_GET_CHILD_SUBREAPER:
    case PR_SET_CHILD_SUBREAPER:
    case PR_GET_THP_DISABLE:
    case PR_SET_THP_DISABLE:
        return true;
    default:
        return false;
    }
}

enum { LSM_SET_SELF_ATTR = 460 }; // Linux 6.8

bool ros_route_changes_rights(uint64_t nr, const struct ros_args *args)
{
    switch (nr) {
    case __NR_setuid:
    case __NR_setgid:
    case __NR_setreuid:
    case __NR_setregid:
    case __NR_setresuid:
    case __NR_setresgid:
    case __NR_setfsuid:
    case __NR_setfsgid:
    case __NR_setgroups:
    case __NR_capset:
    case __NR_unshare:
    case __NR_setns:
    case __NR_chroot:
    case __NR_pivot_root:
    case __NR_personality:
    case __NR_keyctl:
    case __NR_landlock_restrict_self:
    case __NR_seccomp:
    case __NR_set_mempolicy:
    case __NR_ioprio_set:
    case __NR_setpriority:
    case __NR_sched_setscheduler:
    case __NR_sched_setparam:
    case __NR_sched_setattr:
    case __NR_ptrace:
    case LSM_SET_SELF_ATTR:
        return true;
    case __NR_prctl:
        return !prctl_is_harmless(args->a[0]);
    case __NR_write: // of a security label, to /proc/thread-self/attr
    case __NR_writev:
    case __NR_pwrite64:
    case __NR_pwritev:
    case __NR_pwritev2:
        return kind_of((uint32_t)args->a[0]) == KIND_PROC;
    case __NR_sched_setaffinity: // where threads differ in it, nobody's is that of a poller
        return ros_groups_alive() == 1;
    case __NR_close_range:
        return args->a[2] != 0; // CLOSE_RANGE_UNSHARE: a descriptor table of its own
    default:
        return false;
    }
}
