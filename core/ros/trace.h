// Counters and the event trace (abi/stats.h, abi/trace.h). All functions do nothing when neither
// was asked for.
#ifndef MV_ROS_TRACE_H
#define MV_ROS_TRACE_H

#include "base/types.h" // before the others: they include nothing, see there

#include "abi/stats.h"
#include "abi/trace.h"

// Map the files behind the descriptors (-1: none) and close them. Returns 0 or a negative errno.
int ros_trace_open(int stats_fd, int trace_fd);

// NULL unless counters are kept.
struct mv_stats *ros_stats(void);
void ros_stats_slots(unsigned slots, uint64_t bytes);
void ros_stats_groups(unsigned alive);
void ros_stats_add(uint64_t *counter, uint64_t n);

// Record an event that began at TSC value `begin` and ends now. nr, result, a: as abi/trace.h says.
struct ros_event {
    enum mv_trace_kind kind;
    uint32_t nr;
    int64_t result;
    uint64_t a[4];
};
void ros_trace(const struct ros_event *event, uint64_t begin);
void ros_trace_merge(uint64_t start, uint64_t size, uint64_t begin);

// Before the process ends or goes on natively: fill in what is only known then.
void ros_stats_finish(void);

#endif
