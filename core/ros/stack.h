// The program's stack, for backtraces.
#ifndef MV_ROS_STACK_H
#define MV_ROS_STACK_H

#include "base/types.h" // before the others: they include nothing, see there

#include "ros/profile.h"

struct ros_stack {
    uint32_t frames, words;
    uint64_t frame[MV_PROFILE_FRAMES];       // return addresses by frame pointers, innermost first
    uint64_t returns[MV_PROFILE_WORDS / 64]; // which words are return addresses: a bit each
    uint64_t word[MV_PROFILE_WORDS];
};

// Copy the stack above rsp, as far as there is one, and find the return addresses on it: those that
// frame pointers from rbp lead to, and all words that follow a call in memory that may be executed.
// rsp and rbp may be anything. *end: where a stack of the same thread ended before, or 0; to meet
// the end costs a fault.
void ros_stack_take(struct ros_stack *ret, uint64_t rsp, uint64_t rbp, uint64_t *end);

#endif
