// Signals of the core's own. They interrupt a poller's call (poller.c) or a virtual CPU that stays
// in the guest (watch.c), or pass on what came for the process while Linux chose a poller for it.
//
// Linux keeps one of a kind pending for a thread and drops the others. So what a signal is for is
// written down before it is sent, whichever comes is for all that is written down, and one that
// comes for nothing any more does no harm. And they are of a kind that nobody else sends.

#include <asm/unistd.h>

#include "base/sys.h"
#include "ros/signal.h"

static const uint64_t mark; // its address marks them

int ros_signal_send_own(uint32_t pid, uint32_t tid)
{
    siginfo_t info = {.si_signo = ROS_SIGNAL_OWN, .si_code = SI_QUEUE, .si_ptr = (void *)&mark};
    return (int)sys4(__NR_rt_tgsigqueueinfo, pid, tid, ROS_SIGNAL_OWN, &info);
}

static bool is_marked(const siginfo_t *info)
{
    return info->si_signo == ROS_SIGNAL_OWN && info->si_code == SI_QUEUE && info->si_ptr == &mark;
}

// True if it may be one, and if it was expected, which it is not any more.
static bool is_expected(const siginfo_t *info, uint32_t *expected)
{
    // Where the user may have no more signals queued, Linux forgets what was said of one.
    bool forgotten = info->si_signo == ROS_SIGNAL_OWN && info->si_code == SI_USER && !info->si_pid;
    return (forgotten || is_marked(info)) && __atomic_exchange_n(expected, 0, __ATOMIC_SEQ_CST);
}

bool ros_signal_is_own(const siginfo_t *info, uint32_t *expected)
{
    return is_expected(info, expected) || is_marked(info);
}

void ros_signal_to_process(const struct ros_group *self, const siginfo_t *info)
{
    sys3(__NR_rt_sigqueueinfo, self->id.tid, info->si_signo, info);
}

bool ros_signal_pass_on(struct ros_group *to, const siginfo_t *info)
{
    struct ros_passed_on *passed_on = &to->passed_on[ros_sync_index(info->si_signo)];
    passed_on->info = *info;
    __atomic_store_n(&passed_on->there, 1, __ATOMIC_SEQ_CST);
    if (ros_group_runs(to) && ros_signal_send_own(to->id.pid, to->id.tid) == 0)
        return true;
    // It ends, and has given it back, or not.
    return !__atomic_exchange_n(&passed_on->there, 0, __ATOMIC_SEQ_CST);
}

bool ros_signal_take_passed_on(struct ros_group *self, siginfo_t *info)
{
    bool more = false, taken = false;
    siginfo_t came = *info;
    for (unsigned i = 0; i < ROS_SYNC_COUNT; i++) {
        struct ros_passed_on *passed_on = &self->passed_on[i];
        if (!READ_ONCE(passed_on->there))
            continue;
        if (!taken && is_expected(&came, &passed_on->there)) {
            *info = passed_on->info;
            taken = true;
        } else {
            more = true;
        }
    }
    // What has come may be somebody else's, and have taken the place of ours.
    if (more && came.si_signo == ROS_SIGNAL_OWN)
        ros_signal_send_own(self->id.pid, self->id.tid);
    return taken;
}

void ros_signal_return_passed_on(struct ros_group *self)
{
    for (unsigned i = 0; i < ROS_SYNC_COUNT; i++)
        if (__atomic_exchange_n(&self->passed_on[i].there, 0, __ATOMIC_SEQ_CST))
            ros_signal_to_process(self, &self->passed_on[i].info);
}
