// Counters and the event trace (abi/stats.h, abi/trace.h): nothing is done for either unless it was
// asked for. Events are also kept in the group that they belong to, the last few of them.
#ifndef MV_ROS_TRACE_H
#define MV_ROS_TRACE_H

#include "base/types.h" // before the others: they include nothing, see there

#include "abi/stats.h"
#include "abi/trace.h"
#include "ros/ros.h"

// Map the files behind the descriptors (-1: none), which the core owns from then on. A profile has
// a trace of its own, so there is one of these two at most. Returns 0 or a negative errno.
int ros_trace_open(int stats_fd, int trace_fd, int profile_fd);

// NULL unless counters are kept.
struct mv_stats *ros_stats(void);
void ros_stats_slots(unsigned slots, uint64_t bytes);
void ros_stats_groups(unsigned alive);
void ros_stats_add(uint64_t *counter, uint64_t n);

// Record an event of the calling partner's group that began at TSC value `begin` and ends now.
void ros_trace(const struct ros_event *event, uint64_t begin);
// The same for a group that the caller acts for.
void ros_trace_for(struct ros_group *group, const struct ros_event *event, uint64_t begin);
void ros_trace_merge(uint64_t start, uint64_t size, uint64_t begin);

// Before the process ends or goes on natively: fill in what is only known then.
void ros_stats_finish(void);

#endif
