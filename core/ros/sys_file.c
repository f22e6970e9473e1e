// System calls that could meet the core's own descriptors, or that ask for the program's name.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/sched.h>

#include "base/fds.h"
#include "base/print.h"
#include "base/string.h"
#include "ros/channel.h"

// True if fd is a descriptor of the core that this group must not lose. In a descriptor table of
// its own (a vfork child's) a group needs its own virtual CPU and the VM.
static int *needed_owner(const struct ros_group *group, uint64_t fd)
{
    int *owner = mv_fd_owner((int)fd);
    if (owner && group->private_files && owner != &group->vcpu.fd && owner != &ros.hvm.vm_fd)
        return NULL;
    return owner;
}

int64_t ros_sys_fcntl(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    // The core's descriptors are not there.
    return needed_owner(group, args->a[0]) ? -EBADF : ros_forward(group, nr, args);
}

int64_t ros_sys_close(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    int64_t result = ros_sys_fcntl(group, nr, args);
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
    if (needed_owner(group, args->a[0]))
        return -EBADF;
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
