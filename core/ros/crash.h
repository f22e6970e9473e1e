// The end of a program whose virtual machine cannot go on: one line on stderr, a report, status 125
// (docs/crash-reports.md).
#ifndef MV_ROS_CRASH_H
#define MV_ROS_CRASH_H

#include "ros/ros.h"

// Set where reports go, before the program begins. to: "off", "raw" (this report, on stderr), or
// what `multiverse crash-report --to` takes; python: the interpreter that reports are given to, by
// way of the core; envp: the environment, of which it gets what it needs to start. The texts are
// copied; NULL stands for "off" and for no interpreter.
void ros_crash_init(const char *to, const char *python, char *const *envp);

// The group's virtual CPU cannot go on. what, detail: a few words and a number that say why. On the
// group's partner; may be called with any of the core's locks held.
_Noreturn void ros_crash(struct ros_group *group, const char *what, uint64_t detail);

// The core itself has raised a signal that instructions raise. In its handler.
_Noreturn void ros_crash_of_core(struct ros_group *group, int sig, const siginfo_t *info,
                                 const struct ucontext *uc);

// In the handler of signals, for those that are sent: does not return if the group's process is
// about to end in a crash.
void ros_crash_signal(struct ros_group *group, const siginfo_t *info);

#endif
