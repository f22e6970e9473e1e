// System calls that could meet the core's own descriptors, or that ask for the program's name.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/mman.h>
#include <linux/sched.h>

#include "base/fds.h"
#include "base/print.h"
#include "base/string.h"
#include "ros/channel.h"

// Which arguments of a call are descriptors: a bit for each. mmap's fifth may be one.
// clang-format off
static const uint8_t descriptors[] = {
    [__NR_read] = 1, [__NR_write] = 1, [__NR_close] = 1, [__NR_fstat] = 1, [__NR_lseek] = 1,
    [__NR_ioctl] = 1, [__NR_pread64] = 1, [__NR_pwrite64] = 1, [__NR_readv] = 1,
    [__NR_writev] = 1, [__NR_preadv] = 1, [__NR_pwritev] = 1, [__NR_preadv2] = 1,
    [__NR_pwritev2] = 1, [__NR_fcntl] = 1, [__NR_flock] = 1, [__NR_fsync] = 1,
    [__NR_fdatasync] = 1, [__NR_ftruncate] = 1, [__NR_fallocate] = 1, [__NR_fadvise64] = 1,
    [__NR_readahead] = 1, [__NR_sync_file_range] = 1, [__NR_syncfs] = 1, [__NR_fstatfs] = 1,
    [__NR_getdents] = 1, [__NR_getdents64] = 1, [__NR_fchdir] = 1, [__NR_fchmod] = 1,
    [__NR_fchown] = 1, [__NR_fsetxattr] = 1, [__NR_fgetxattr] = 1, [__NR_flistxattr] = 1,
    [__NR_fremovexattr] = 1, [__NR_dup] = 1, [__NR_dup2] = 1, [__NR_dup3] = 1,
    [__NR_vmsplice] = 1, [__NR_epoll_wait] = 1, [__NR_epoll_pwait] = 1, [__NR_epoll_pwait2] = 1,
    [__NR_signalfd] = 1, [__NR_signalfd4] = 1, [__NR_timerfd_settime] = 1,
    [__NR_timerfd_gettime] = 1, [__NR_inotify_add_watch] = 1, [__NR_inotify_rm_watch] = 1,
    [__NR_fanotify_mark] = 1, [__NR_connect] = 1, [__NR_accept] = 1, [__NR_accept4] = 1,
    [__NR_sendto] = 1, [__NR_recvfrom] = 1, [__NR_sendmsg] = 1, [__NR_recvmsg] = 1,
    [__NR_sendmmsg] = 1, [__NR_recvmmsg] = 1, [__NR_shutdown] = 1, [__NR_bind] = 1,
    [__NR_listen] = 1, [__NR_getsockname] = 1, [__NR_getpeername] = 1, [__NR_setsockopt] = 1,
    [__NR_getsockopt] = 1, [__NR_io_uring_enter] = 1, [__NR_io_uring_register] = 1,
    [__NR_pidfd_send_signal] = 1, [__NR_pidfd_getfd] = 1, [__NR_setns] = 1, [__NR_openat] = 1,
    [__NR_openat2] = 1, [__NR_newfstatat] = 1, [__NR_statx] = 1, [__NR_mkdirat] = 1,
    [__NR_mknodat] = 1, [__NR_fchownat] = 1, [__NR_futimesat] = 1, [__NR_utimensat] = 1,
    [__NR_unlinkat] = 1, [__NR_readlinkat] = 1, [__NR_fchmodat] = 1, [__NR_faccessat] = 1,
    [__NR_faccessat2] = 1, [__NR_name_to_handle_at] = 1, [__NR_open_by_handle_at] = 1,
    [__NR_execveat] = 1,
    [__NR_sendfile] = 1 | 2, [__NR_copy_file_range] = 1 | 4, [__NR_splice] = 1 | 4,
    [__NR_tee] = 1 | 2, [__NR_epoll_ctl] = 1 | 4, [__NR_renameat] = 1 | 4,
    [__NR_renameat2] = 1 | 4, [__NR_linkat] = 1 | 4, [__NR_symlinkat] = 2,
    [__NR_move_mount] = 1 | 4,
};
// clang-format on

// The owner, if fd is a descriptor of the core that this group must not lose. In a descriptor table
// of its own (a vfork child's) a group needs its own virtual CPU and the VM.
static int *needed_owner(const struct ros_group *group, uint64_t fd)
{
    int *owner = mv_fd_owner((int)fd);
    if (owner && group->private_files && owner != &group->vcpu.fd && owner != &ros.hvm.vm_fd)
        return NULL;
    return owner;
}

bool ros_names_own_descriptor(const struct ros_group *group, uint64_t nr,
                              const struct ros_args *args)
{
    unsigned which = nr < ARRAY_SIZE(descriptors) ? descriptors[nr] : 0;
    if (nr == __NR_mmap && !(args->a[3] & MAP_ANONYMOUS))
        which = 1 << 4;
    for (unsigned i = 0; which >> i; i++)
        if (which >> i & 1 && needed_owner(group, args->a[i]))
            return true;
    return false;
}

int64_t ros_sys_close(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    int64_t result = ros_forward(group, nr, args);
    ros_route_forget((uint32_t)args->a[0], (uint32_t)args->a[0]);
    return result;
}

int64_t ros_sys_close_range(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    uint64_t first = (uint32_t)args->a[0], last = (uint32_t)args->a[1], flags = args->a[2];
    if (first > last || flags & ~(uint64_t)(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE))
        return -EINVAL;
    if (flags & CLOSE_RANGE_CLOEXEC) // what the core has is close-on-exec already
        return ros_forward(group, nr, args);
    if (flags & CLOSE_RANGE_UNSHARE)
        group->private_files = true;
    while (first <= last) { // the ranges between the core's descriptors
        int own = mv_fd_lowest_owned((unsigned)first, (unsigned)last);
        uint64_t end = own < 0 ? last + 1 : (uint64_t)own;
        if (first < end) {
            struct ros_args part = {{first, end - 1, flags}};
            int64_t result = ros_forward(group, nr, &part);
            ros_route_forget(first, end - 1);
            if (result)
                return result;
        }
        first = end + 1;
    }
    return 0;
}

int64_t ros_sys_dup2(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    int *owner = needed_owner(group, args->a[1]);
    if (owner && mv_fd_move(owner))
        return -EBUSY;
    int64_t result = ros_forward(group, nr, args);
    ros_route_forget((uint32_t)args->a[1], (uint32_t)args->a[1]);
    return result;
}

int64_t ros_sys_unshare(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    enum { NEED_ONE_THREAD = CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM };
    int64_t result = args->a[0] & NEED_ONE_THREAD ? ros_call_alone(group, nr, args)
                                                  : ros_forward(group, nr, args);
    if (result == 0 && (args->a[0] & CLONE_FILES))
        group->private_files = true;
    return result;
}

int64_t ros_sys_setns(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    return ros_call_alone(group, nr, args);
}

bool ros_is_exe_link(uint64_t path)
{
    char text[64], own[32];
    if (ros_copy_in(text, path, 6) || memcmp(text, "/proc/", 6) != 0 ||
        ros_copy_string(text, path, sizeof(text)) < 0)
        return false;
    mv_format(own, sizeof(own), "/proc/%u/exe", ros_self()->id.pid);
    return strcmp(text, "/proc/self/exe") == 0 || strcmp(text, "/proc/thread-self/exe") == 0 ||
           strcmp(text, own) == 0;
}

void ros_replace_exe_link(struct ros_args *args, unsigned at)
{
    if (!ros.exe_by_kernel && ros_is_exe_link(args->a[at]))
        args->a[at] = (uint64_t)ros.exe_path;
}

int64_t ros_sys_path(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_replace_exe_link(args, 0);
    return ros_forward(group, nr, args);
}

int64_t ros_sys_path_at(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_replace_exe_link(args, 1);
    return ros_forward(group, nr, args);
}

static int64_t read_exe_link(uint64_t buffer, uint64_t size)
{
    uint64_t len = MIN(strlen(ros.exe_path), size);
    if ((int64_t)size <= 0)
        return -EINVAL;
    return ros_copy_out(buffer, ros.exe_path, len) ? -EFAULT : (int64_t)len;
}

int64_t ros_sys_readlink(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (!ros.exe_by_kernel && ros_is_exe_link(args->a[0]))
        return read_exe_link(args->a[1], args->a[2]);
    return ros_forward(group, nr, args);
}

int64_t ros_sys_readlinkat(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (!ros.exe_by_kernel && ros_is_exe_link(args->a[1]))
        return read_exe_link(args->a[2], args->a[3]);
    return ros_forward(group, nr, args);
}
