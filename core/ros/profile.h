// The profile (abi/profile.h): counts and costs of legacy events by place. Nothing is done unless
// it was asked for.
#ifndef MV_ROS_PROFILE_H
#define MV_ROS_PROFILE_H

#include "base/types.h" // before the others: they include nothing, see there

#include "abi/profile.h"
#include "ros/ros.h"

extern struct mv_profile *ros_profile; // NULL: nobody asked for it

// Take the profile over, mapped from descriptor fd, which stays open for programs that follow.
void ros_profile_open(struct mv_profile *mapped, int fd);
// What an exit costs, and the frequency of the TSC in Hz; have the HRT say when it asks.
void ros_profile_init(struct mv_control *control, uint64_t exit_cycles, uint64_t tsc_hz);
// A process begins, the one that calls: the first, or in a forked child.
void ros_profile_process(void);
// A group begins, or goes on in a forked child.
void ros_profile_group(struct ros_group *group);

// The partner's virtual CPU has left the virtual machine, or is about to enter it again.
void ros_profile_left(struct ros_group *group);
void ros_profile_enters(struct ros_group *group);
// The partner begins the call in the frame now.
void ros_profile_call(struct ros_group *group);
// An event is over; group: NULL before there is one.
void ros_profile_event(struct ros_group *group, const struct ros_event *event, uint64_t begin,
                       uint64_t end);
// When the HRT has asked for what is now answered; 0 if it did not say. TSC cycles.
uint64_t ros_profile_requested(const struct ros_group *group);

// Before the process ends or goes on natively.
void ros_profile_finish(void);
// A descriptor of the profile that outlives an execve, for a program that follows, or -1.
int ros_profile_inherit(void);

#endif
