// What Linux may access of the program's memory in each system call, or more than that. Reads and
// writes are the same here. Calls that are in gc.toml and not here may access anything.
#include <asm/ioctls.h>
#include <asm/unistd.h>
#include <linux/uio.h>

#include "flights.h"
#include "gc.h"

enum {
    PATH = 4096, // PATH_MAX, and more than other names may have
    SMALL = 256, // any structure of a fixed size but those named below
    LARGE = 1024,
    ARGUMENTS = 5, // of one call that point to memory
};

// How an argument points to memory.
enum kind {
    NOTHING,  // the end of a list
    FIXED,    // to `size` bytes
    COUNTED,  // to as many elements of `size` bytes as argument `by` says
    BITS,     // to three words more than argument `by` has bits
    PAGES_OF, // to a byte for each page of argument `by`
    VECTORS,  // to argument `by` struct iovec
    MESSAGE,  // to a struct msghdr
    TELLS,    // not at all: it is a descriptor, and what it gives may tell about protection
};

struct use {
    uint8_t kind, argument, by;
    uint16_t size;
};

struct message { // struct user_msghdr of Linux
    uint64_t name;
    int name_size;
    uint64_t vectors, count, control, control_size;
    unsigned flags;
};

#define AT(argument, size) {FIXED, argument, 0, size}
#define NAME(argument) {FIXED, argument, 0, PATH}
#define BYTES(argument, by) {COUNTED, argument, by, 1}
#define EACH(argument, by, size) {COUNTED, argument, by, size}
#define IOVECS(argument, by) {VECTORS, argument, by, 0}

enum { CALLS = __NR_futex_waitv + 1 };

static const struct use uses[CALLS][ARGUMENTS] = {
    // Files
    [__NR_read] = {{TELLS, 0, 0, 0}, BYTES(1, 2)},
    [__NR_pread64] = {{TELLS, 0, 0, 0}, BYTES(1, 2)},
    [__NR_readv] = {{TELLS, 0, 0, 0}, IOVECS(1, 2)},
    [__NR_preadv] = {{TELLS, 0, 0, 0}, IOVECS(1, 2)},
    [__NR_preadv2] = {{TELLS, 0, 0, 0}, IOVECS(1, 2)},
    [__NR_write] = {BYTES(1, 2)},
    [__NR_pwrite64] = {BYTES(1, 2)},
    [__NR_writev] = {IOVECS(1, 2)},
    [__NR_pwritev] = {IOVECS(1, 2)},
    [__NR_pwritev2] = {IOVECS(1, 2)},
    [__NR_open] = {NAME(0)},
    [__NR_openat] = {NAME(1)},
    [__NR_openat2] = {NAME(1), BYTES(2, 3)},
    [__NR_creat] = {NAME(0)},
    [__NR_stat] = {NAME(0), AT(1, SMALL)},
    [__NR_lstat] = {NAME(0), AT(1, SMALL)},
    [__NR_fstat] = {AT(1, SMALL)},
    [__NR_newfstatat] = {NAME(1), AT(2, SMALL)},
    [__NR_statx] = {NAME(1), AT(4, SMALL)},
    [__NR_statfs] = {NAME(0), AT(1, SMALL)},
    [__NR_fstatfs] = {AT(1, SMALL)},
    [__NR_access] = {NAME(0)},
    [__NR_faccessat] = {NAME(1)},
    [__NR_faccessat2] = {NAME(1)},
    [__NR_getdents] = {{TELLS, 0, 0, 0}, BYTES(1, 2)},
    [__NR_getdents64] = {{TELLS, 0, 0, 0}, BYTES(1, 2)},
    [__NR_getcwd] = {BYTES(0, 1)},
    [__NR_chdir] = {NAME(0)},
    [__NR_rename] = {NAME(0), NAME(1)},
    [__NR_renameat] = {NAME(1), NAME(3)},
    [__NR_renameat2] = {NAME(1), NAME(3)},
    [__NR_mkdir] = {NAME(0)},
    [__NR_mkdirat] = {NAME(1)},
    [__NR_rmdir] = {NAME(0)},
    [__NR_link] = {NAME(0), NAME(1)},
    [__NR_linkat] = {NAME(1), NAME(3)},
    [__NR_unlink] = {NAME(0)},
    [__NR_unlinkat] = {NAME(1)},
    [__NR_symlink] = {NAME(0), NAME(1)},
    [__NR_symlinkat] = {NAME(0), NAME(2)},
    [__NR_readlink] = {NAME(0), BYTES(1, 2)},
    [__NR_readlinkat] = {NAME(1), BYTES(2, 3)},
    [__NR_chmod] = {NAME(0)},
    [__NR_fchmodat] = {NAME(1)},
    [__NR_chown] = {NAME(0)},
    [__NR_lchown] = {NAME(0)},
    [__NR_fchownat] = {NAME(1)},
    [__NR_truncate] = {NAME(0)},
    [__NR_utimensat] = {NAME(1), AT(2, SMALL)},
    [__NR_pipe] = {AT(0, SMALL)},
    [__NR_pipe2] = {AT(0, SMALL)},
    [__NR_memfd_create] = {NAME(0)},
    [__NR_inotify_add_watch] = {NAME(1)},
    [__NR_fcntl] = {AT(2, SMALL)}, // of some operations
    // Waiting
    [__NR_ioctl] = {AT(2, SMALL)}, // of terminals
    [__NR_poll] = {EACH(0, 1, 8)},
    [__NR_ppoll] = {EACH(0, 1, 8), AT(2, SMALL), AT(3, SMALL)},
    [__NR_select] = {{BITS, 1, 0, 0}, {BITS, 2, 0, 0}, {BITS, 3, 0, 0}, AT(4, SMALL)},
    [__NR_epoll_wait] = {EACH(1, 2, 12)},
    [__NR_epoll_pwait] = {EACH(1, 2, 12), AT(4, SMALL)},
    [__NR_epoll_pwait2] = {EACH(1, 2, 12), AT(3, SMALL), AT(4, SMALL)},
    [__NR_epoll_ctl] = {AT(3, SMALL)},
    [__NR_futex] = {AT(0, 8), AT(3, SMALL), AT(4, 8)},
    [__NR_nanosleep] = {AT(0, SMALL), AT(1, SMALL)},
    [__NR_clock_nanosleep] = {AT(2, SMALL), AT(3, SMALL)},
    [__NR_wait4] = {AT(1, SMALL), AT(3, SMALL)},
    [__NR_waitid] = {AT(2, SMALL), AT(4, SMALL)},
    // Signals and time
    [__NR_rt_sigaction] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_rt_sigprocmask] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_rt_sigpending] = {AT(0, SMALL)},
    [__NR_rt_sigsuspend] = {AT(0, SMALL)},
    [__NR_rt_sigtimedwait] = {AT(0, SMALL), AT(1, SMALL), AT(2, SMALL)},
    [__NR_sigaltstack] = {AT(0, SMALL), AT(1, SMALL)},
    [__NR_signalfd4] = {AT(1, SMALL)},
    [__NR_setitimer] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_getitimer] = {AT(1, SMALL)},
    [__NR_timer_create] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_timer_settime] = {AT(2, SMALL), AT(3, SMALL)},
    [__NR_timer_gettime] = {AT(1, SMALL)},
    [__NR_timerfd_settime] = {AT(2, SMALL), AT(3, SMALL)},
    [__NR_timerfd_gettime] = {AT(1, SMALL)},
    [__NR_clock_gettime] = {AT(1, SMALL)},
    [__NR_clock_getres] = {AT(1, SMALL)},
    [__NR_gettimeofday] = {AT(0, SMALL), AT(1, SMALL)},
    [__NR_time] = {AT(0, SMALL)},
    [__NR_times] = {AT(0, SMALL)},
    // Sockets
    [__NR_connect] = {BYTES(1, 2)},
    [__NR_bind] = {BYTES(1, 2)},
    [__NR_accept] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_accept4] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_getsockname] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_getpeername] = {AT(1, SMALL), AT(2, SMALL)},
    [__NR_socketpair] = {AT(3, SMALL)},
    [__NR_sendto] = {BYTES(1, 2), BYTES(4, 5)},
    [__NR_recvfrom] = {BYTES(1, 2), AT(4, SMALL), AT(5, SMALL)},
    [__NR_sendmsg] = {{MESSAGE, 1, 0, 0}},
    [__NR_recvmsg] = {{MESSAGE, 1, 0, 0}},
    // The process
    [__NR_mincore] = {{PAGES_OF, 2, 1, 0}},
    [__NR_getrlimit] = {AT(1, SMALL)},
    [__NR_setrlimit] = {AT(1, SMALL)},
    [__NR_prlimit64] = {AT(2, SMALL), AT(3, SMALL)},
    [__NR_getrusage] = {AT(1, SMALL)},
    [__NR_sysinfo] = {AT(0, SMALL)},
    [__NR_uname] = {AT(0, LARGE)},
    [__NR_getgroups] = {EACH(1, 0, 4)},
    [__NR_getresuid] = {AT(0, SMALL), AT(1, SMALL), AT(2, SMALL)},
    [__NR_getresgid] = {AT(0, SMALL), AT(1, SMALL), AT(2, SMALL)},
    [__NR_getrandom] = {BYTES(0, 1)},
    [__NR_getcpu] = {AT(0, SMALL), AT(1, SMALL)},
    [__NR_sched_getaffinity] = {BYTES(2, 1)},
    [__NR_sched_setaffinity] = {BYTES(2, 1)},
    [__NR_sched_getparam] = {AT(1, SMALL)},
    // Linux keeps the addresses of these for the thread's end: they are the C library's.
    [__NR_set_robust_list] = {AT(0, SMALL)},
    [__NR_set_tid_address] = {AT(0, SMALL)},
    [__NR_exit] = {AT(0, 0)},
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// What cannot be read Linux cannot use.
static void vectors(struct flight *flight, uint64_t at, uint64_t count)
{
    enum { SOME = 16 };
    struct iovec vector[SOME];
    count = least(count, UIO_MAXIOV);
    gc_uses(flight, at, count * sizeof(*vector));
    for (uint64_t done = 0, some; done < count; done += some) {
        some = least(count - done, SOME);
        if (ak_copy_in(vector, (const void *)(at + done * sizeof(*vector)), some * sizeof(*vector)))
            return;
        for (uint64_t i = 0; i < some; i++)
            gc_uses(flight, (uint64_t)vector[i].iov_base, vector[i].iov_len);
    }
}

static void message(struct flight *flight, uint64_t at)
{
    struct message message;
    gc_uses(flight, at, sizeof(message));
    if (ak_copy_in(&message, (const void *)at, sizeof(message)))
        return;
    gc_uses(flight, message.name, SMALL);
    gc_uses(flight, message.control, message.control_size);
    vectors(flight, message.vectors, message.count);
}

static void use(struct flight *flight, const struct use *use, const uint64_t *arg)
{
    uint64_t at = arg[use->argument], by = arg[use->by];
    switch ((enum kind)use->kind) {
    case FIXED:
        gc_uses(flight, at, use->size);
        break;
    case COUNTED:
        gc_uses(flight, at, least(by, UINT64_MAX / (use->size * 2ULL)) * use->size);
        break;
    case BITS:
        gc_uses(flight, at, (uint32_t)by / 8 + 3 * sizeof(uint64_t));
        break;
    case PAGES_OF:
        gc_uses(flight, at, by / 4096 + 2);
        break;
    case VECTORS:
        vectors(flight, at, by);
        break;
    case MESSAGE:
        message(flight, at);
        break;
    case TELLS:
        if (gc_tells((unsigned)at))
            gc_uses_any(flight);
        break;
    case NOTHING:
        break;
    }
}

// Terminals, and what is like them; other devices' structures may point anywhere.
static bool is_plain_ioctl(uint64_t op)
{
    return (uint32_t)op >> 8 == TCGETS >> 8;
}

void gc_before(const struct ak_call *call)
{
    struct flight *flight = gc_begin();
    const struct use *list = uses[call->nr];
    if (!flight)
        return;
    if (call->nr == __NR_ioctl && !is_plain_ioctl(call->arg[1]))
        gc_uses_any(flight);
    else
        for (unsigned i = 0; i < ARGUMENTS && list[i].kind != NOTHING; i++)
            use(flight, &list[i], call->arg);
    gc_end();
}
