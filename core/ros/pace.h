// When pollers look at the slots, and when one is worth waking (docs/channel.md, "When pollers
// look"). Times are in TSC cycles.
#ifndef MV_ROS_PACE_H
#define MV_ROS_PACE_H

#include "base/types.h" // before the others: they include nothing

#include "ros/channel.h"

// What one poller may spend, and what it knows of its core.
struct pace {
    int64_t credit;         // that it may still look
    uint64_t credit_at;     // when credit was last brought up to date
    uint64_t lost, lost_at; // for how long it could not look, and when that was
    uint64_t lateness;      // how much longer a nap takes than asked for
    uint64_t resumed_at;    // when it got the core back
};

enum pace_verdict { PACE_LOOK_ON, PACE_NAP, PACE_SLEEP };

enum { PACE_BURST_US = 20 }; // a call so soon after the last one belongs to the same burst

// exit_cycles: what an exit costs. tsc_hz: TSC cycles a second.
void pace_init(enum ros_channel_mode mode, uint64_t exit_cycles, uint64_t tsc_hz);
// There are no pollers any more, and there shall be some again.
void pace_reset(void);
// So many microseconds.
uint64_t pace_us(uint64_t n);

// True if others want the cores, as far as is known.
bool pace_contended(uint64_t now);
// System call `nr` has come to a partner: it has left the virtual machine.
void pace_left(uint64_t nr, uint64_t now);
// A call that a poller could have answered went the other way. Returns true if a poller is to be
// woken, or if there is none yet (!made) to be made.
bool pace_missed(uint64_t now, bool made);
// None is to be woken before `until`.
void pace_rest(uint64_t until);

// ---- Of a poller, by itself --------------------------------------------------------------------

void pace_begin(struct pace *me, uint64_t now);
// It begins to look.
void pace_look(struct pace *me, uint64_t now);
// It has answered system call `nr`, from `begin` to `now`.
void pace_answer(struct pace *me, uint64_t nr, uint64_t begin, uint64_t now);
// A request was not taken in time.
void pace_timed_out(struct pace *me, uint64_t now);
// It has looked at all slots some times, and answered so many calls.
void pace_turn(struct pace *me, uint64_t now, uint64_t answered);
// What now? waiting: there are calls, but not the cores to make them. *nap: how long PACE_NAP is.
enum pace_verdict pace_judge(struct pace *me, uint64_t now, bool waiting, uint64_t *nap);
// It is about to sleep until it is woken.
void pace_sleep(const struct pace *me, uint64_t now);
// A nap that should end at `due` has ended, or a call has ended it.
void pace_back(struct pace *me, uint64_t due, uint64_t now);

#endif
