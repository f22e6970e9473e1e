// Who acts for a group on the ROS side, and what has become of its request (docs/channel.md).

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/time_types.h>

#include "base/string.h"
#include "base/sys.h"
#include "ros/channel.h"

_Static_assert(sizeof(struct mv_slot) == 64, "a slot is a cache line");
_Static_assert(offsetof(struct mv_slot, arg) == MV_SLOT_ARGS, "channel.h");
_Static_assert(offsetof(struct mv_slot, result) == MV_SLOT_RESULT, "channel.h");
_Static_assert(offsetof(struct mv_slot, site) == MV_SLOT_SITE, "channel.h");
_Static_assert(offsetof(struct mv_control, spins) == MV_CONTROL_SPINS, "channel.h");
_Static_assert(offsetof(struct mv_control, stamp) == MV_CONTROL_STAMP, "channel.h");
_Static_assert(offsetof(struct mv_control, route) == MV_CONTROL_ROUTES, "channel.h");

// How long the partner looks before it sleeps, in turns of a loop with PAUSE, and how long it
// sleeps before it looks whether a signal has come for the program, in ns.
enum { TAKE_SPINS = 2000, TAKE_SLEEP_NS = 2000000 };

// Identities of rights that have been handed out; 0 is "no poller may act".
static uint64_t rights_last;

// The cost of PAUSE differs by a factor of five between processors.
static uint64_t pause_cycles(void)
{
    enum { TURNS = 64 };
    uint64_t best = ~0ULL;
    for (int round = 0; round < 4; round++) {
        uint64_t begin = rdtsc();
        for (int i = 0; i < TURNS; i++)
            __builtin_ia32_pause();
        best = MIN(best, (rdtsc() - begin) / TURNS);
    }
    return MAX(best, 1ULL);
}

void ros_channel_init(const struct ros_channel_config *config, struct mv_control *control,
                      uint64_t exit_cycles, uint64_t tsc_hz)
{
    struct ros_cpus cpus;
    control->machine.exit_cycles = exit_cycles;
    control->machine.cores = ros_cpus_allowed(&cpus) ? ros_cpus_count(&cpus) : 1;
    control->machine.tsc_hz = tsc_hz;
    control->machine.ns_per_tick = (1000000000ULL << 32) / tsc_hz;
    control->route[__NR_rt_sigreturn] = MV_ROUTE_LOCAL;
    control->route[__NR_rt_sigprocmask] = MV_ROUTE_LOCAL;
    control->route[__NR_set_robust_list] = MV_ROUTE_LOCAL;
    if (config->mode == ROS_CHANNEL_ASYNC)
        return;
    for (uint64_t nr = 0; nr < MV_ROUTES; nr++)
        if (ros_route(nr))
            control->route[nr] = MV_ROUTE_POLLER;
    // An answer that takes as long as an exit is no better than an exit.
    control->spins = (uint32_t)MAX(exit_cycles / pause_cycles(), 16ULL);
    ros_route_init(exit_cycles);
    ros_pollers_init(config, control, exit_cycles, tsc_hz);
}

static uint64_t new_rights(void)
{
    return __atomic_add_fetch(&rights_last, 1, __ATOMIC_RELAXED);
}

static void set_rights(struct ros_group *group, uint64_t rights)
{
    group->rights = rights;
    WRITE_ONCE(group->frame->sync, rights != 0);
}

void ros_channel_begin(struct ros_group *group, const struct ros_group *parent, bool same_rights)
{
    group->server = ROS_SERVER_PARTNER;
    memset(group->slot, 0, sizeof(*group->slot));
    if (!parent)
        set_rights(group, new_rights());
    else
        set_rights(group, same_rights ? parent->rights : 0);
}

void ros_channel_rights_changed(struct ros_group *group)
{
    set_rights(group, new_rights());
}

void ros_channel_take(struct ros_group *group)
{
    ros_pollers_count_running(-1);
    for (unsigned turn = 0;; turn++) {
        uint32_t seen = ROS_SERVER_NOBODY;
        if (__atomic_compare_exchange_n(&group->server, &seen, ROS_SERVER_PARTNER, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        if (turn < TAKE_SPINS) {
            __builtin_ia32_pause();
            continue;
        }
        if (READ_ONCE(group->signal_pending))
            ros_poller_interrupt(group);
        uint32_t waited = seen | ROS_SERVER_WAITED;
        if (seen != waited && !__atomic_compare_exchange_n(&group->server, &seen, waited, false,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        // A signal may arrive before we sleep: the time is bounded.
        struct __kernel_timespec time = {.tv_nsec = TAKE_SLEEP_NS};
        sys4(__NR_futex, &group->server, FUTEX_WAIT_PRIVATE, waited, &time);
    }
}

void ros_channel_release(struct ros_group *group)
{
    ros_pollers_count_running(1);
    __atomic_store_n(&group->server, ROS_SERVER_NOBODY, __ATOMIC_RELEASE);
}

bool ros_channel_collect(struct ros_group *group, int64_t *result)
{
    uint32_t state = READ_ONCE(group->slot->state);
    bool answered = state == MV_SLOT_ANSWERED;
    *result = READ_ONCE(group->slot->result);
    WRITE_ONCE(group->slot->state, MV_SLOT_FREE);
    group->timed_out = state == MV_SLOT_POSTED && !group->signal_pending;
    return answered;
}

void ros_channel_left(struct ros_group *group, uint64_t nr, const struct ros_args *args)
{
    if (!group->rights || nr >= MV_ROUTES || !(ros_space_control()->route[nr] & MV_ROUTE_POLLER))
        return;
    bool missed = ros_route_may(nr, args);
    if (missed)
        ros_pollers_want(group, nr);
    if (group->timed_out)
        ros_pollers_timed_out();
    // If it is we who keep a poller from its core, fewer of us at a time get more done.
    if (missed && ros_pollers_crowded())
        ros_pollers_wait_turn();
}
