// A poller that looks at the slots costs a core, so it looks only as long as that pays: it may
// spend the time that its answers have saved in exits, and besides a share of the time during
// which nobody else wants its core.

#include "ros/pace.h"

// In microseconds.
enum {
    TAIL_US = 10,          // for so long the next call of a burst is waited for
    NEW_CREDIT_US = 250,   // to collect before a poller without credit looks again
    NAP_MIN_US = 30,       // a shorter sleep is not worth the timer,
    NAP_RISKY_US = 100,    // nor is this one if the next call may come meanwhile
    WAKE_US = 10,          // how much earlier than necessary to be back
    RARE_US = 4000,        // calls further apart than this are better served by exits
    PREEMPTED_US = 100,    // a turn that took so long: somebody else has had the core
    TIMEOUT_US = 500,      // what a request that was not taken in time says about us
    LOST_MAX_US = 4000,    // after so much of that, beyond a fifth of the time, no core counts as
    CONTENDED_US = 100000, // idle for so long
    CREDIT_MAX_US = 10000,
};
// Calls that went the other way, each soon after the one before, until a poller is woken, and until
// the first is made: in a process as short as most forked children are it never pays.
enum { WAKE_MISSES = 2, MAKE_MISSES = 16 };
// Of an idle core's time, a quarter may be spent on looking in vain.
enum { SHARE = 4 };

static struct {
    enum ros_channel_mode mode;
    uint64_t exit_cycles;
    uint64_t us;             // TSC cycles a microsecond
    uint64_t missed_at;      // the last call that went the other way
    unsigned missed;         // such calls, each soon after the one before
    uint64_t not_before;     // before which none is to be woken
    uint64_t contended_till; // before which others want the cores, as far as we know
    uint64_t called_at;      // the last call that a poller has answered or might have
    uint64_t gap, deviation; // between bursts of calls: mean, and from the mean
} all;

void pace_init(enum ros_channel_mode mode, uint64_t exit_cycles, uint64_t tsc_hz)
{
    all.mode = mode;
    all.exit_cycles = exit_cycles;
    all.us = MAX(tsc_hz / 1000000, 1ULL);
}

void pace_reset(void)
{
    all.missed_at = all.missed = 0;
    all.not_before = 0;
}

uint64_t pace_us(uint64_t n)
{
    return n * all.us;
}

bool pace_contended(uint64_t now)
{
    return now < READ_ONCE(all.contended_till);
}

// Move an estimate a part of the way to a new value.
static void approach(uint64_t *estimate, uint64_t value, unsigned part)
{
    *estimate = (uint64_t)((int64_t)*estimate + ((int64_t)value - (int64_t)*estimate) / (int)part);
}

// A call that left the virtual machine was made half an exit ago, and the program goes on in half
// an exit. Gaps within a burst teach nothing; of the others mean and deviation are kept, in which
// one that is very different counts for little. Pollers and partners race here; estimates bear it.
void pace_called(uint64_t now, bool left)
{
    uint64_t half = left ? all.exit_cycles / 2 : 0, since = READ_ONCE(all.called_at);
    uint64_t gap = now - half > since ? MIN(now - half - since, pace_us(RARE_US)) : 0;
    WRITE_ONCE(all.called_at, now + half);
    if (gap < pace_us(PACE_BURST_US))
        return;
    uint64_t distance = gap > all.gap ? gap - all.gap : all.gap - gap;
    unsigned part = distance > all.gap / 2 ? 32 : 8;
    approach(&all.gap, gap, part);
    approach(&all.deviation, distance, part);
}

bool pace_missed(uint64_t now, bool made)
{
    uint64_t before = READ_ONCE(all.missed_at);
    if (now < READ_ONCE(all.not_before))
        return false;
    WRITE_ONCE(all.missed_at, now);
    if (now - before > pace_us(RARE_US))
        WRITE_ONCE(all.missed, 0);
    unsigned missed = __atomic_add_fetch(&all.missed, 1, __ATOMIC_RELAXED);
    return all.mode != ROS_CHANNEL_AUTO || missed >= (made ? WAKE_MISSES : MAKE_MISSES);
}

void pace_rest(uint64_t until)
{
    WRITE_ONCE(all.not_before, until);
}

// ---- Of a poller -------------------------------------------------------------------------------

void pace_begin(struct pace *me, uint64_t now)
{
    me->credit_at = now;
    me->credit = pace_contended(now) ? 0 : (int64_t)pace_us(CREDIT_MAX_US);
}

// Bring the credit up to date, `looking` or asleep since the last time.
static void account(struct pace *me, uint64_t now, bool looking)
{
    int64_t elapsed = (int64_t)(now - me->credit_at), max = (int64_t)pace_us(CREDIT_MAX_US);
    me->credit_at = now;
    if (!pace_contended(now))
        me->credit += elapsed / SHARE;
    if (looking)
        me->credit -= elapsed;
    // Not below either: time in which it was kept from looking is no debt.
    me->credit = MIN(MAX(me->credit, -max), max);
}

// Somebody else had the core for `time` cycles.
static void lose(struct pace *me, uint64_t now, uint64_t time)
{
    uint64_t forgiven = (now - me->lost_at) / 5;
    me->lost = time + (me->lost > forgiven ? me->lost - forgiven : 0);
    me->lost_at = now;
    if (me->lost > pace_us(LOST_MAX_US))
        WRITE_ONCE(all.contended_till, now + pace_us(CONTENDED_US));
}

void pace_look(struct pace *me, uint64_t now)
{
    account(me, now, false);
}

void pace_answer(struct pace *me, uint64_t begin, uint64_t now)
{
    // Somebody would have had to do that anyway; but not what it was preempted for.
    me->credit += (int64_t)MIN(now - begin, all.exit_cycles);
}

void pace_timed_out(struct pace *me, uint64_t now)
{
    lose(me, now, pace_us(TIMEOUT_US));
}

void pace_turn(struct pace *me, uint64_t now, uint64_t answered)
{
    uint64_t time = now - me->credit_at;
    bool preempted = !answered && time > pace_us(PREEMPTED_US);
    if (preempted) {
        lose(me, now, time);
        me->resumed_at = now;
    }
    // Behind an exit caches are cold: the program loses half as much again.
    me->credit += (int64_t)(answered * all.exit_cycles * 3 / 2);
    account(me, now, !preempted);
}

enum pace_verdict pace_judge(struct pace *me, uint64_t now, bool waiting, uint64_t *nap)
{
    uint64_t called_at = READ_ONCE(all.called_at), idle = now > called_at ? now - called_at : 0;
    bool rare = MIN(idle, now - me->resumed_at) > pace_us(RARE_US) && !waiting;
    if (rare)
        return PACE_SLEEP;
    if (all.mode == ROS_CHANNEL_SYNC)
        return PACE_LOOK_ON;
    if (me->credit < 0) { // until there is something to spend again
        *nap = SHARE * ((uint64_t)-me->credit + pace_us(NEW_CREDIT_US));
        pace_rest(now + *nap);
        return pace_contended(now) ? PACE_SLEEP : PACE_NAP;
    }
    if (waiting)
        return PACE_LOOK_ON;
    // Programs call at surprisingly regular times: sleep until shortly before the next. Where they
    // do not, a nap is a risk that is run only to save credit.
    uint64_t lead = 2 * all.deviation, cap = all.gap / SHARE, worth = pace_us(NAP_MIN_US);
    if (lead > cap) {
        if (me->credit > (int64_t)pace_us(CREDIT_MAX_US) / 2)
            return PACE_LOOK_ON;
        lead = cap;
        worth = pace_us(NAP_RISKY_US);
    }
    uint64_t margin = idle + lead + me->lateness + pace_us(WAKE_US);
    if (me->napped_for != called_at && idle > pace_us(TAIL_US) && all.gap > margin + worth) {
        *nap = all.gap - margin;
        me->napped_for = called_at;
        return PACE_NAP;
    }
    return PACE_LOOK_ON;
}

void pace_sleep(const struct pace *me, uint64_t now)
{
    if (me->credit < 0)
        pace_rest(now + pace_us(CONTENDED_US));
}

void pace_back(struct pace *me, uint64_t due, uint64_t now)
{
    if (now > due + pace_us(PREEMPTED_US))
        lose(me, now, now - due);
    else if (now > due)
        approach(&me->lateness, now - due, 8);
}
