// A poller that looks at the slots costs a core, so it looks only as long as that pays: it may
// spend the time that its answers have saved in exits, and besides a share of the time during
// which nobody else wants its core. While no call is expected it sleeps.

#include "ros/pace.h"

// In microseconds.
enum {
    TAIL_US = 10,          // for so long the next call of a burst is waited for
    NEW_CREDIT_US = 100,   // to collect before a poller without credit looks again
    NAP_MIN_US = 30,       // a shorter sleep is not worth the timer
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
// Of an idle core's time, an eighth may be spent on looking in vain.
enum { SHARE = 8 };
// A call is regular if one that is early comes less than a third of its interval early. One that is
// not, and comes less often than this many exits take, is cheaper missed than waited for.
enum { REGULAR = 3, OFTEN_EXITS = 6 };
enum { RHYTHMS = 8 };
// So many exits after a call has been missed the program is back from it for sure.
enum { BACK_EXITS = 3 };

// When a system call comes. Programs make different calls in different rhythms (a scheduler asks
// for events, a port writes when its buffer is full): together they look like none.
struct rhythm {
    uint64_t nr;
    uint64_t begun, ended; // its last burst: when it began, and when the last call in it ended
    uint64_t interval;     // between beginnings of bursts: mean (0: none seen yet),
    uint64_t deviation;    // from the mean,
    uint64_t early;        // and what one in seventeen is shorter than
};

static struct {
    enum ros_channel_mode mode;
    uint64_t exit_cycles;
    uint64_t us;             // TSC cycles a microsecond
    uint64_t missed_at;      // the last call that went the other way
    unsigned missed;         // such calls, each soon after the one before
    uint64_t not_before;     // before which none is to be woken
    uint64_t contended_till; // before which others want the cores, as far as we know
    uint64_t called_at;      // the last call that a poller has answered or might have
    uint64_t left_for;       // how long some thread has been outside, so far,
    uint64_t left_till;      // and until when
    struct rhythm rhythm[RHYTHMS];
    struct rhythm *latest; // of the last call
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

// By the clock of a program that does not know of its exits. Otherwise a poller that is late for a
// rhythm would slow it down, learn the slower one, and stay late.
static uint64_t program_time(uint64_t now)
{
    return now - READ_ONCE(all.left_for);
}

static struct rhythm *rhythm_of(uint64_t nr, uint64_t begin)
{
    struct rhythm *oldest = &all.rhythm[0], *latest = READ_ONCE(all.latest);
    if (latest && latest->nr == nr)
        return latest;
    for (struct rhythm *rhythm = all.rhythm; rhythm < all.rhythm + RHYTHMS; rhythm++) {
        if (rhythm->nr == nr && rhythm->begun) {
            WRITE_ONCE(all.latest, rhythm);
            return rhythm;
        }
        oldest = rhythm->ended < oldest->ended ? rhythm : oldest;
    }
    *oldest = (struct rhythm){.nr = nr, .begun = begin, .ended = begin};
    WRITE_ONCE(all.latest, oldest);
    return oldest;
}

static void learn(struct rhythm *rhythm, uint64_t interval)
{
    uint64_t mean = rhythm->interval;
    if (!mean) {
        rhythm->interval = interval;
        rhythm->deviation = interval / 2;
        rhythm->early = interval / 2;
        return;
    }
    // One that is very different counts for little.
    interval = MIN(interval, 2 * mean);
    uint64_t distance = interval > mean ? interval - mean : mean - interval;
    unsigned part = distance > mean / 2 ? 32 : 8;
    approach(&rhythm->interval, interval, part);
    approach(&rhythm->deviation, distance, part);
    if (interval > rhythm->early)
        rhythm->early += rhythm->deviation / 16;
    else
        rhythm->early -= MIN(rhythm->early, rhythm->deviation);
    uint64_t most = rhythm->interval, least = most - MIN(3 * rhythm->deviation, most);
    rhythm->early = MIN(MAX(rhythm->early, least), most);
}

// Gaps within a burst teach nothing, nor do pauses. Pollers and partners race here; estimates bear
// it.
static void called(uint64_t nr, uint64_t begin, uint64_t end)
{
    uint64_t start = program_time(begin);
    struct rhythm *rhythm = rhythm_of(nr, start);
    uint64_t ended = rhythm->ended, begun = rhythm->begun;
    rhythm->ended = program_time(end);
    if (start < ended + pace_us(PACE_BURST_US))
        return;
    rhythm->begun = start;
    if (start - begun < pace_us(RARE_US))
        learn(rhythm, start - begun);
}

void pace_left(uint64_t nr, uint64_t now)
{
    uint64_t half = all.exit_cycles / 2; // since it was made, and until the program goes on
    uint64_t till = READ_ONCE(all.left_till), end = now + half;
    called(nr, now - half, now - half);
    WRITE_ONCE(all.called_at, end);
    // Exits of several threads at the same time pass only once, or this clock would run backwards.
    if (till < end && __atomic_compare_exchange_n(&all.left_till, &till, end, false,
                                                  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        __atomic_add_fetch(&all.left_for, MIN(end - till, all.exit_cycles), __ATOMIC_RELAXED);
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

void pace_answer(struct pace *me, uint64_t nr, uint64_t begin, uint64_t now)
{
    called(nr, begin, now);
    WRITE_ONCE(all.called_at, now);
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

// Until when no call is expected; `now` if one may come at any time.
static uint64_t quiet_until(uint64_t now)
{
    uint64_t until = ~0ULL, time = program_time(now);
    for (const struct rhythm *rhythm = all.rhythm; rhythm < all.rhythm + RHYTHMS; rhythm++) {
        uint64_t interval = READ_ONCE(rhythm->interval);
        uint64_t early = MIN(READ_ONCE(rhythm->early), interval), due = rhythm->begun + early;
        if (!interval || time > rhythm->ended + pace_us(RARE_US))
            continue;
        bool regular = early + interval / REGULAR > interval;
        if (!regular && interval < OFTEN_EXITS * all.exit_cycles)
            return now;
        if (regular && time < due + 2 * (interval - early)) // else it has missed its turn
            until = MIN(until, due);
    }
    return until == ~0ULL ? now : until + (now - time);
}

// True if the program may still be outside, with a call that a poller was woken for: the next one
// of its burst is to come. Behind an exit with cold caches that takes longer than was measured.
static bool is_back_soon(uint64_t now)
{
    return now < READ_ONCE(all.missed_at) + BACK_EXITS * all.exit_cycles;
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
    if (waiting || idle < pace_us(TAIL_US) || is_back_soon(now))
        return PACE_LOOK_ON;
    uint64_t until = quiet_until(now);
    uint64_t early = me->lateness + pace_us(WAKE_US);
    if (until < now + early + pace_us(NAP_MIN_US))
        return PACE_LOOK_ON;
    *nap = until - early - now;
    return PACE_NAP;
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
    else if (now > due) // being late costs more than being early
        approach(&me->lateness, now - due, now - due > me->lateness ? 8 : 16);
}
