#include "ros/trace.h"

#include <linux/mman.h>
#include <linux/resource.h>
#include <linux/stat.h>

#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "ros/profile.h"

static struct mv_stats *stats;
static struct mv_trace_header *trace;
static uint64_t trace_capacity; // the header's own field is the program's to spoil

// Which counter an event of the trace adds to; MV_EVENT_COUNT: none.
static const uint8_t event_of_kind[MV_TRACE_KIND_COUNT] = {
    [MV_TRACE_NONE] = MV_EVENT_COUNT,      [MV_TRACE_SYSCALL] = MV_EVENT_SYSCALL,
    [MV_TRACE_SYNC] = MV_EVENT_SYNC,       [MV_TRACE_EXCEPTION] = MV_EVENT_EXCEPTION,
    [MV_TRACE_FAULT] = MV_EVENT_FAULT,     [MV_TRACE_KICK] = MV_EVENT_KICK,
    [MV_TRACE_MERGE] = MV_EVENT_MERGE,     [MV_TRACE_REPLICATION] = MV_EVENT_REPLICATION,
    [MV_TRACE_SIGNAL] = MV_EVENT_SIGNAL,   [MV_TRACE_GROUP_START] = MV_EVENT_COUNT,
    [MV_TRACE_GROUP_END] = MV_EVENT_COUNT,
};

static int map_file(int fd, uint64_t least, uint64_t *size, void **ret)
{
    struct statx st;
    long err = sys5(__NR_statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, STATX_SIZE, &st);
    if (err < 0)
        return (int)err;
    if (st.stx_size < least)
        return -EINVAL;
    uint64_t at = mv_region_reserve(ALIGN_UP(st.stx_size, PAGE_SIZE), PAGE_SIZE);
    if (!at)
        return -ENOMEM;
    uint64_t mapped =
        sys_mmap(at, st.stx_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (sys_failed(mapped))
        return (int)mapped;
    *size = st.stx_size;
    *ret = (void *)mapped;
    return 0;
}

static void use_trace(struct mv_trace_header *at, uint64_t size)
{
    trace = at;
    trace_capacity = MIN((size - sizeof(*at)) / sizeof(struct mv_trace_event), at->capacity);
}

int ros_trace_open(int stats_fd, int trace_fd, int profile_fd)
{
    uint64_t size;
    void *mapped;
    int err = 0;
    if (stats_fd >= 0) {
        err = map_file(stats_fd, sizeof(*stats), &size, &mapped);
        if (err)
            return err;
        sys1(__NR_close, stats_fd);
        stats = mapped;
        stats->magic = MV_STATS_MAGIC;
        stats->version = MV_STATS_VERSION;
        stats->ring = 255;
    }
    if (trace_fd >= 0) {
        err = map_file(trace_fd, sizeof(*trace), &size, &mapped);
        if (err)
            return err;
        sys1(__NR_close, trace_fd);
        use_trace(mapped, size);
    }
    if (profile_fd >= 0) {
        err = map_file(profile_fd, sizeof(*ros_profile) + sizeof(*trace), &size, &mapped);
        if (err)
            return err;
        ros_profile_open(mapped, profile_fd);
        use_trace((void *)(ros_profile + 1), size - sizeof(*ros_profile));
    }
    return 0;
}

struct mv_stats *ros_stats(void)
{
    return stats;
}

void ros_stats_add(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void raise_to(uint64_t *peak, uint64_t value)
{
    uint64_t seen = READ_ONCE(*peak);
    while (seen < value && !__atomic_compare_exchange_n(peak, &seen, value, true, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED))
        ;
}

void ros_stats_slots(unsigned slots, uint64_t bytes)
{
    if (!stats)
        return;
    raise_to(&stats->slots, slots + 1); // the AeroKernel's own counts too
    raise_to(&stats->slot_bytes, bytes);
}

void ros_stats_groups(unsigned alive)
{
    if (stats)
        raise_to(&stats->groups_peak, alive);
}

void ros_stats_finish(void)
{
    struct rusage usage = {0};
    ros_profile_finish();
    if (stats && sys2(__NR_getrusage, 0, &usage) == 0)
        raise_to(&stats->guest_memory_peak, (uint64_t)usage.ru_maxrss * KIB(1));
}

static void count(const struct ros_event *event, uint64_t cycles)
{
    unsigned kind = event_of_kind[event->kind];
    if (kind == MV_EVENT_COUNT)
        return;
    ros_stats_add(&stats->events[kind], 1);
    ros_stats_add(&stats->event_cycles[kind], cycles);
    if (kind == MV_EVENT_SYSCALL || kind == MV_EVENT_SYNC)
        ros_stats_add(&stats->syscalls[MIN(event->nr, MV_STATS_SYSCALLS - 1U)], 1);
    if (kind == MV_EVENT_SYNC)
        ros_stats_add(&stats->sync[MIN(event->nr, MV_STATS_SYSCALLS - 1U)], 1);
    if (kind == MV_EVENT_EXCEPTION)
        ros_stats_add(&stats->exceptions[MIN(event->nr, MV_STATS_VECTORS - 1U)], 1);
}

// Windows that are merged before there is a partner's loop belong to no group: the caller is on
// another stack than a group's.
static bool has_group;

static void keep(struct ros_group *group, const struct ros_event *event, uint64_t begin)
{
    if (event->kind == MV_TRACE_GROUP_START) {
        has_group = true;
        group->recent_next = 0;
        memset(group->recent, 0, sizeof(group->recent));
    }
    if (!has_group)
        return;
    struct ros_recent *to = &group->recent[group->recent_next++ % ROS_RECENT];
    to->begin = begin;
    to->event = *event;
}

void ros_trace_for(struct ros_group *group, const struct ros_event *event, uint64_t begin)
{
    keep(group, event, begin);
    if (!stats && !trace)
        return;
    bool is_call = event->kind == MV_TRACE_SYSCALL || event->kind == MV_TRACE_SYNC;
    uint64_t end = rdtsc(), asked = is_call ? ros_profile_requested(group) : 0;
    if (stats)
        count(event, end - begin);
    if (ros_profile)
        ros_profile_event(has_group ? group : NULL, event, begin, end);
    if (!trace)
        return;
    uint64_t index = __atomic_fetch_add(&trace->next, 1, __ATOMIC_RELAXED);
    if (index >= trace_capacity)
        return;
    struct mv_trace_event *to = (struct mv_trace_event *)(trace + 1) + index;
    to->begin = begin;
    to->end = end;
    to->asked = asked;
    to->pid = has_group ? group->id.pid : 0;
    to->tid = has_group ? group->id.tid : 0;
    to->nr = event->nr;
    to->result = event->result;
    for (unsigned i = 0; i < ARRAY_SIZE(to->a); i++)
        to->a[i] = event->a[i];
    __atomic_store_n(&to->kind, (uint16_t)event->kind, __ATOMIC_RELEASE);
}

void ros_trace(const struct ros_event *event, uint64_t begin)
{
    ros_trace_for(ros_self(), event, begin);
}

void ros_trace_merge(uint64_t start, uint64_t size, uint64_t begin)
{
    ros_trace(&(struct ros_event){.kind = MV_TRACE_MERGE, .a = {start, size}}, begin);
}
