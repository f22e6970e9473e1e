// A watch over virtual CPUs that do not leave the guest. At ring 0 a program can make KVM try to go
// on for ever, without an exit: page tables where no memory is do. KVM looks at nothing but signals
// then, so a thread looks once a second for virtual CPUs that have not left since, and has each
// leave once; the partner sees what is the matter (loop.c). A program that only computes pays for
// an exit a second.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/time_types.h>

#include "base/lock.h"
#include "base/region.h"
#include "base/sys.h"
#include "base/thread.h"
#include "ros/channel.h"
#include "ros/signal.h"

enum { LOOK_S = 1, STACK_BYTES = KIB(16) };

static struct {
    struct mv_lock lock;
    char *stack;
    uint32_t busy; // there is such a thread
    uint32_t stop; // futex
} watch;

static void look(void)
{
    ros_groups_lock();
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        struct ros_group *group = ros_group_at(i);
        uint32_t entries = READ_ONCE(group->watch.entries);
        bool stays = entries == group->watch.seen;
        group->watch.seen = entries;
        // A thread that has not begun to end takes the signal.
        if (stays && ros_group_runs(group) && READ_ONCE(group->server) == ROS_SERVER_NOBODY) {
            WRITE_ONCE(group->watch.kicked, 1);
            ros_signal_send_own(group->id.pid, group->id.tid);
        }
    }
    ros_groups_unlock();
}

static void watch_main(void *arg)
{
    (void)arg;
    while (!READ_ONCE(watch.stop)) {
        struct __kernel_timespec time = {.tv_sec = LOOK_S};
        if (sys4(__NR_futex, &watch.stop, FUTEX_WAIT_PRIVATE, 0, &time) == -ETIMEDOUT)
            look();
    }
    ros_exit_asm(&watch.busy, 0);
}

static void begin(void)
{
    if (!watch.stack)
        watch.stack = mv_region_alloc(STACK_BYTES);
    if (!watch.stack || watch.busy)
        return;
    watch.stop = 0;
    watch.busy = 1;
    ros_sigset all = ~0ULL, mask;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
    if (mv_thread((uint64_t)watch.stack + STACK_BYTES, watch_main, NULL) < 0)
        watch.busy = 0; // a limit on threads
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
}

static void end(void)
{
    __atomic_store_n(&watch.stop, 1, __ATOMIC_RELEASE);
    sys3(__NR_futex, &watch.stop, FUTEX_WAKE_PRIVATE, 1);
    while (__atomic_load_n(&watch.busy, __ATOMIC_ACQUIRE))
        sys0(__NR_sched_yield);
}

void ros_watch_begin(void)
{
    if (ros.ring || ros.attached)
        return;
    mv_lock(&watch.lock);
    begin();
    mv_unlock(&watch.lock);
}

void ros_watch_end(void)
{
    mv_lock(&watch.lock);
    end();
    mv_unlock(&watch.lock);
}

void ros_watch_renew(void)
{
    if (!READ_ONCE(watch.busy))
        return;
    mv_lock(&watch.lock);
    end();
    begin();
    mv_unlock(&watch.lock);
}

void ros_watch_forget(void)
{
    watch.lock = (struct mv_lock){0};
    watch.busy = 0;
    for (unsigned i = 0; i < ros_groups_count(); i++)
        ros_group_at(i)->watch.kicked = 0;
}

bool ros_watch_kicked(struct ros_group *group, const siginfo_t *info)
{
    if (!ros_signal_is_own(info, &group->watch.kicked))
        return false;
    group->unseen = true;
    return true;
}
