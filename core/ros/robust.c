// Robust lists (set_robust_list(2)): what Linux has of a thread, and what it gets ahead of it.
//
// A C library gives Linux a list for each of its threads, as one of the first things that these do,
// at the same distance from their thread pointers. So the partner of a new thread registers the
// list there before the thread begins, and the AeroKernel answers its call. As long as such a list
// is empty, it makes no difference at the thread's end.

#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/sched.h>

#include "base/sys.h"
#include "ros/channel.h"
#include "ros/state.h"

// Distance from the thread pointer to the list's head that was given last; 0: none yet.
static uint64_t distance;

static void know(struct ros_group *group, uint64_t head)
{
    WRITE_ONCE(group->signals->robust, head);
}

int64_t ros_sys_set_robust_list(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    struct hvm_state state;
    int64_t result = ros_forward(group, nr, args);
    if (result)
        return result;
    ros_read_state(group, &state, NULL);
    know(group, args->a[0]);
    WRITE_ONCE(distance, args->a[0] - state.fs_base);
    return 0;
}

void ros_robust_begin(struct ros_group *group, uint64_t clone_flags)
{
    struct robust_list_head head;
    uint64_t from = READ_ONCE(distance), at = group->fs_base + from;
    know(group, 0);
    if (!from || !(clone_flags & CLONE_THREAD) || !(clone_flags & CLONE_SETTLS) ||
        ros_copy_in(&head, at, sizeof(head)) || (uint64_t)head.list.next != at ||
        head.list_op_pending || sys2(__NR_set_robust_list, at, sizeof(head)))
        return;
    know(group, at);
}
