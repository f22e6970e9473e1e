// Sets of CPUs, and where pollers may run.

#include "base/sys.h"
#include "ros/channel.h"

unsigned ros_cpus_count(const struct ros_cpus *cpus)
{
    unsigned count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(cpus->bits); i++)
        for (uint64_t bits = cpus->bits[i]; bits; bits &= bits - 1)
            count++;
    return count;
}

bool ros_cpus_allowed(struct ros_cpus *ret)
{
    *ret = (struct ros_cpus){0};
    return sys3(__NR_sched_getaffinity, 0, sizeof(*ret), ret) > 0;
}

int64_t ros_cpus_confine(uint32_t tid, const struct ros_cpus *cpus)
{
    return ros_cpus_count(cpus) ? sys3(__NR_sched_setaffinity, tid, sizeof(*cpus), cpus) : 0;
}

bool ros_cpus_usable(const struct ros_cpus *cpus)
{
    struct ros_cpus own;
    return !ros_cpus_count(cpus) || (ros_cpus_allowed(&own) && ros_cpus_confine(0, cpus) == 0 &&
                                     ros_cpus_confine(0, &own) == 0);
}

unsigned ros_cpus_current(void)
{
    unsigned cpu = ~0U;
    sys3(__NR_getcpu, &cpu, 0, 0);
    return cpu;
}

bool ros_cpus_find_places(const struct ros_cpus *wanted, struct ros_places *ret)
{
    ret->own = ros_cpus_current();
    if (!ros_cpus_allowed(&ret->all) || ret->own >= ROS_CPUS_MAX)
        return false;
    if (ros_cpus_count(wanted))
        ret->all = *wanted;
    ret->others = ret->all;
    ret->others.bits[ret->own / 64] &= ~(1ULL << ret->own % 64);
    return ros_cpus_count(&ret->others) != 0;
}
