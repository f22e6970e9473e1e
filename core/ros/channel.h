// The ROS side of the event channels: which way a call may go (route.c), who acts for a group
// (channel.c), and the pollers (poller.c; pace.h for when they look). docs/channel.md has the
// protocol.
#ifndef MV_ROS_CHANNEL_H
#define MV_ROS_CHANNEL_H

#include "base/types.h" // before the others: they include nothing

#include "abi/channel.h"
#include "ros/ros.h"

// Values of ros_group.server: who acts for the group on the ROS side.
enum {
    ROS_SERVER_NOBODY = 0,
    ROS_SERVER_POLLER = 1,
    ROS_SERVER_PARTNER = 2,
    ROS_SERVER_WAITED = 4, // added to POLLER: the partner sleeps until it changes
};

// How the user wants calls to go.
enum ros_channel_mode { ROS_CHANNEL_AUTO, ROS_CHANNEL_SYNC, ROS_CHANNEL_ASYNC };

enum { ROS_CPUS_MAX = 1024 };
struct ros_cpus {
    uint64_t bits[ROS_CPUS_MAX / 64];
};

struct ros_channel_config {
    enum ros_channel_mode mode;
    unsigned pollers;         // at most; 0: as the machine has cores
    struct ros_cpus ros_cpus; // where pollers may run; empty: anywhere
};

// channel.c ----------------------------------------------------------------------------------

// Set up the control page: routes, waiting time. exit_cycles: what an exit costs, TSC cycles.
// tsc_hz: TSC cycles a second.
void ros_channel_init(const struct ros_channel_config *config, struct mv_control *control,
                      uint64_t exit_cycles, uint64_t tsc_hz);

// A group begins: `parent` is the group whose thread made it, or NULL; same_rights: the new thread
// shares everything with its parent that a call's result may depend on.
void ros_channel_begin(struct ros_group *group, const struct ros_group *parent, bool same_rights);

// The partner takes the group, waiting for a poller to let go; or lets it go.
void ros_channel_take(struct ros_group *group);
void ros_channel_release(struct ros_group *group);

// What became of the request in the slot, with the group taken. Returns true if a poller has
// answered it, with *result; the slot is free afterwards.
bool ros_channel_collect(struct ros_group *group, int64_t *result);

// The partner is about to make a call, which maybe a poller could have answered.
void ros_channel_left(struct ros_group *group, uint64_t nr, const struct ros_args *args);

// The rights, namespaces or descriptor table of the calling thread, of a group that has rights,
// have changed: no poller that there is now may act for it any more.
void ros_channel_rights_changed(struct ros_group *group);

// route.c ------------------------------------------------------------------------------------

// On what condition a poller may answer the call, in words; NULL if only the partner can: it may
// wait, or belongs to one thread.
const char *ros_route(uint64_t nr);

// Before the first call. exit_cycles: what an exit costs, TSC cycles.
void ros_route_init(uint64_t exit_cycles);

// True if a poller would answer the calling thread's call, as far as that is known without looking
// at paths, which takes as long as the call.
bool ros_route_may(uint64_t nr, const struct ros_args *args);

// Make the caller's call on a poller, if its arguments and descriptors allow it. Returns its
// result, or ROS_REFUSED: nothing has happened, the partner has to make it.
#define ROS_REFUSED (INT64_MIN + 2)
int64_t ros_route_call(struct ros_group *poller, struct ros_group *caller, uint64_t nr,
                       struct ros_args *args);

// True if the caller may have to wait in the call for somebody or something.
bool ros_route_may_wait(uint64_t nr);

// True if the call may change rights, namespaces or descriptor table of the calling thread.
bool ros_route_changes_rights(uint64_t nr, const struct ros_args *args);

// Descriptor `fd` (or a range) may be something else from now on.
void ros_route_forget(uint64_t first, uint64_t last);

// cpus.c -------------------------------------------------------------------------------------

// How many CPUs the set has.
unsigned ros_cpus_count(const struct ros_cpus *cpus);
// The CPUs that Linux lets the calling thread run on. Returns false if it does not say.
bool ros_cpus_allowed(struct ros_cpus *ret);
// Let a thread (0: the calling one) run on these CPUs only; none: wherever it may. Returns 0, or a
// negative errno: -EINVAL where it may run on none of them.
int64_t ros_cpus_confine(uint32_t tid, const struct ros_cpus *cpus);
// False if the calling thread may run on none of these CPUs; true if there are none.
bool ros_cpus_usable(const struct ros_cpus *cpus);
// Where the calling thread runs.
unsigned ros_cpus_current(void);

// The CPUs on which a poller may run that serves the caller.
struct ros_places {
    unsigned own;                // where the caller is
    struct ros_cpus all, others; // others: without that one
};
// wanted: where pollers shall run, empty: wherever the caller may. Returns false if there is no
// other CPU than the caller's.
bool ros_cpus_find_places(const struct ros_cpus *wanted, struct ros_places *ret);

// poller.c -----------------------------------------------------------------------------------

void ros_pollers_init(const struct ros_channel_config *config, struct mv_control *control,
                      uint64_t exit_cycles, uint64_t tsc_hz);
// Wake or make a poller for this group, which has made system call `nr`, if that is worth it.
void ros_pollers_want(struct ros_group *group, uint64_t nr);
// A request was taken back since no poller took it in time.
void ros_pollers_timed_out(void);
// A virtual CPU enters the guest (1) or has left it (-1).
void ros_pollers_count_running(int change);
// True if a poller means to look but does not come to it, and there are as many virtual CPUs as
// cores.
bool ros_pollers_crowded(void);
// Sleep for some milliseconds at most, until a poller says that there is room again.
void ros_pollers_wait_turn(void);
// End all pollers and wait until they are gone. There will be none until ros_pollers_reset().
void ros_pollers_end(void);
// In a forked child, where no poller is left, and when there shall be pollers again after their
// end.
void ros_pollers_reset(void);
// Held across fork, so that the child finds nothing half changed.
void ros_pollers_lock(void);
void ros_pollers_unlock(void);
// Interrupt the system call of the poller that has taken the group.
void ros_poller_interrupt(const struct ros_group *group);
// The part of the signal handler for pollers: `self` is one. Signals that are not
// ros_poller_interrupt()'s go to a thread of the program.
void ros_poller_signal(struct ros_group *self, const siginfo_t *info, struct ucontext *uc);

#endif
