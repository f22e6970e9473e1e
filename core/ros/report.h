// The raw crash report: lines of key=value in a memory file (docs/crash-reports.md has the format).
#ifndef MV_ROS_REPORT_H
#define MV_ROS_REPORT_H

#include "hvm/details.h"
#include "ros/ros.h"

// Make the file. Where that is impossible, or it has no room, the report goes to stderr.
void report_open(void);
// Write out what is buffered. Returns the file's descriptor, at its beginning, or -1.
int report_close(void);

// The parts of a report. The first four need no memory of the program's; the others may stop for
// good at what the program has mapped, so that their caller has to set a time limit.
void report_head(const struct ros_group *group, const char *what, uint64_t detail);
void report_processor(const struct ros_group *group, const struct hvm_details *details);
void report_events(const struct ros_group *group);
void report_threads(const struct ros_group *self, uint32_t pid);
void report_core(int sig, const siginfo_t *info, const struct ucontext *uc);
void report_stack(const struct ros_group *group, const struct hvm_details *details);
void report_mappings(void);
void report_arguments(void);
// Where the virtual CPU met what it could not do: behind a vector of the AeroKernel, where the
// exception was.
uint64_t report_rip(const struct ros_group *group, const struct hvm_details *details);
// Say that the report is whole.
void report_end(void);

#endif
