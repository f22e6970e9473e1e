// Pollers: threads of the ROS that answer synchronous requests.
//
// A poller that looks at the slots costs a core, so it looks only as long as that pays: it may
// spend the time that its answers have saved in exits, and besides a share of the time during
// which nobody else wants its core (docs/channel.md, "When pollers look").

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/time_types.h>

#include "base/lock.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/trace.h"

enum { POLLERS_MAX = 16 };

// In microseconds.
enum {
    BURST_US = 20,         // a call so soon after the last one belongs to the same burst
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
    TURN_US = 1000,      // how long groups that share cores with a poller go on before the next may
    NO_CPU_US = 1000000, // until we look again whether there is a core for a poller
};
enum { TURN_MAX_NS = 5000000 };
// Calls that went the other way, each soon after the one before, until a poller is woken, and until
// the first is made: in a process as short as most forked children are it never pays.
enum { WAKE_MISSES = 2, MAKE_MISSES = 16 };
// Of an idle core's time, a quarter may be spent on looking in vain.
enum { SHARE = 4 };

struct poller {
    struct ros_group *block; // its memory: stacks, and what handlers want of a group
    uint32_t tid;
    unsigned cpu;       // where it last went to sleep
    uint32_t wake;      // futex: 0 while it sleeps
    uint32_t interrupt; // the SIGTRAP that comes is ours
    uint64_t rights;
    int64_t credit;         // TSC cycles that it may still look
    uint64_t credit_at;     // TSC at which credit was last brought up to date
    uint64_t lost, lost_at; // TSC cycles during which it could not look, and when that was
    uint64_t lateness;      // TSC cycles that a nap takes longer than asked for
    uint64_t resumed_at;    // TSC at which it got the core back
    uint64_t napped_for;    // the last call when it napped last
    uint64_t last;          // TSC of the last answer
};

static struct {
    struct mv_lock lock;
    struct mv_control *control; // NULL: there are no pollers
    enum ros_channel_mode mode;
    unsigned max;
    struct ros_cpus cpus; // where they may run, if any bit is set
    uint64_t exit_cycles;
    uint64_t us;             // TSC cycles a microsecond
    uint64_t rights;         // of the pollers there are
    uint64_t missed_at;      // TSC of the last call that went the other way
    unsigned missed;         // such calls, each soon after the one before
    uint64_t not_before;     // TSC before which none is to be woken
    uint64_t contended_till; // TSC before which others want the cores, as far as we know
    bool retiring;
    unsigned cpus_allowed;   // to the process, when it started
    uint64_t called_at;      // TSC of the last call that a poller has answered or might have
    uint64_t gap, deviation; // between bursts of calls, TSC cycles: mean, and from the mean
    uint32_t looking;        // pollers that look at the slots
    uint32_t timeouts;       // requests that were not taken in time, since a poller last asked
    uint32_t running;        // groups whose virtual CPU is in the guest
    uint32_t waiting;        // partners that wait for their turn
    uint32_t turn;           // futex: changes when one may go on
    uint64_t turn_at;        // TSC of the last change
    struct poller poller[POLLERS_MAX];
} set;

static uint64_t us(uint64_t n)
{
    return n * set.us;
}

static bool contended(uint64_t now)
{
    return now < READ_ONCE(set.contended_till);
}

void ros_pollers_lock(void)
{
    mv_lock(&set.lock);
}

void ros_pollers_unlock(void)
{
    mv_unlock(&set.lock);
}

void ros_pollers_reset(void)
{
    for (unsigned i = 0; i < POLLERS_MAX; i++) {
        struct ros_group *block = set.poller[i].block;
        set.poller[i] = (struct poller){.block = block};
        if (block)
            block->busy = 0;
    }
    set.looking = set.timeouts = set.running = set.waiting = 0;
    set.missed_at = set.missed = 0;
    set.rights = 0;
    set.not_before = 0;
    set.retiring = false;
    if (set.control)
        WRITE_ONCE(set.control->open, 0);
}

void ros_pollers_init(const struct ros_channel_config *config, struct mv_control *control,
                      uint64_t exit_cycles, uint64_t tsc_hz)
{
    struct ros_cpus cpus;
    set.mode = config->mode;
    set.cpus = config->ros_cpus;
    set.exit_cycles = exit_cycles;
    set.us = MAX(tsc_hz / 1000000, 1ULL);
    set.cpus_allowed = ros_cpus_allowed(&cpus) ? ros_cpus_count(&cpus) : 1;
    // A poller keeps up with several virtual CPUs, and those are what the cores are for.
    set.max = config->pollers ? config->pollers : MAX(set.cpus_allowed / 4, 1U);
    set.max = MIN(set.max, (unsigned)POLLERS_MAX);
    set.control = control;
}

// ---- Answering ---------------------------------------------------------------------------------

// Execute the request in a slot that has been taken; returns what its state shall be.
static uint32_t answer(struct poller *me, struct ros_group *caller)
{
    struct mv_slot *slot = caller->slot;
    uint64_t nr = READ_ONCE(slot->nr), site = READ_ONCE(slot->site), begin = rdtsc();
    struct ros_args args;
    for (unsigned i = 0; i < ARRAY_SIZE(args.a); i++)
        args.a[i] = READ_ONCE(slot->arg[i]);
    struct ros_event event = {.kind = MV_TRACE_SYNC,
                              .nr = (uint32_t)nr,
                              .a = {args.a[0], args.a[1], args.a[2], args.a[3]}};
    if (site && rw_is_hot(site)) {
        caller->rewrite = site; // the partner rewrites it and makes this call
        return MV_SLOT_REFUSED;
    }
    me->block->id = caller->id; // for the trace, and for paths that name the process
    me->block->sighand = caller->sighand;
    event.result = ros_route_call(me->block, caller, nr, &args);
    // Somebody would have had to do that anyway; but not what it was preempted for.
    me->credit += (int64_t)MIN(rdtsc() - begin, set.exit_cycles);
    if (event.result == ROS_REFUSED)
        return MV_SLOT_REFUSED;
    WRITE_ONCE(slot->result, event.result);
    ros_trace_for(caller, &event, begin);
    return MV_SLOT_ANSWERED;
}

// Let the partner have the group again.
static void let_go(struct ros_group *group)
{
    if (__atomic_exchange_n(&group->server, ROS_SERVER_NOBODY, __ATOMIC_ACQ_REL) &
        ROS_SERVER_WAITED)
        sys3(__NR_futex, &group->server, FUTEX_WAKE_PRIVATE, 1);
}

static bool serve(struct poller *me, struct ros_group *group)
{
    uint32_t nobody = ROS_SERVER_NOBODY;
    if (READ_ONCE(group->slot->state) != MV_SLOT_POSTED || READ_ONCE(group->rights) != me->rights ||
        !__atomic_compare_exchange_n(&group->server, &nobody, ROS_SERVER_POLLER, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return false;
    // Only what is true with the group taken counts.
    bool ours = READ_ONCE(group->rights) == me->rights &&
                __atomic_load_n(&group->slot->state, __ATOMIC_ACQUIRE) == MV_SLOT_POSTED;
    if (ours) {
        WRITE_ONCE(group->served_by, me);
        uint32_t state = answer(me, group);
        __atomic_store_n(&group->slot->state, state, __ATOMIC_RELEASE);
    }
    let_go(group);
    return ours;
}

// ---- When to look ------------------------------------------------------------------------------

// Bring the credit up to date, `looking` or asleep since the last time.
static void account(struct poller *me, uint64_t now, bool looking)
{
    int64_t elapsed = (int64_t)(now - me->credit_at);
    me->credit_at = now;
    if (!contended(now))
        me->credit += elapsed / SHARE;
    if (looking)
        me->credit -= elapsed;
    // Not below either: time in which it was kept from looking is no debt.
    me->credit = MIN(MAX(me->credit, -(int64_t)us(CREDIT_MAX_US)), (int64_t)us(CREDIT_MAX_US));
}

// Somebody else had the core for `time` cycles.
static void lose(struct poller *me, uint64_t now, uint64_t time)
{
    uint64_t forgiven = (now - me->lost_at) / 5;
    me->lost = time + (me->lost > forgiven ? me->lost - forgiven : 0);
    me->lost_at = now;
    if (me->lost > us(LOST_MAX_US))
        WRITE_ONCE(set.contended_till, now + us(CONTENDED_US));
}

// Move an estimate a part of the way to a new value.
static void approach(uint64_t *estimate, uint64_t value, unsigned part)
{
    *estimate = (uint64_t)((int64_t)*estimate + ((int64_t)value - (int64_t)*estimate) / (int)part);
}

// A call has come at `now`; if it left the virtual machine, it was made half an exit ago, and the
// program goes on in half an exit. Gaps within a burst teach nothing; of the others mean and
// deviation are kept, in which one that is very different counts for little. Pollers and partners
// race here; estimates bear it.
static void learn(uint64_t now, bool left)
{
    uint64_t half = left ? set.exit_cycles / 2 : 0, since = READ_ONCE(set.called_at);
    uint64_t gap = now - half > since ? MIN(now - half - since, us(RARE_US)) : 0;
    WRITE_ONCE(set.called_at, now + half);
    if (gap < us(BURST_US))
        return;
    uint64_t distance = gap > set.gap ? gap - set.gap : set.gap - gap;
    unsigned part = distance > set.gap / 2 ? 32 : 8;
    approach(&set.gap, gap, part);
    approach(&set.deviation, distance, part);
}

enum verdict { LOOK_ON, NAP, SLEEP };

// Nothing has come for `idle` cycles: what now? A nap ends in time for the call that is expected.
static enum verdict judge(struct poller *me, uint64_t now, uint64_t *nap)
{
    uint64_t called_at = READ_ONCE(set.called_at), idle = now > called_at ? now - called_at : 0;
    bool rare = MIN(idle, now - me->resumed_at) > us(RARE_US) && !READ_ONCE(set.waiting);
    if (rare)
        return SLEEP;
    if (set.mode == ROS_CHANNEL_SYNC)
        return LOOK_ON;
    if (me->credit < 0) { // until there is something to spend again
        *nap = SHARE * ((uint64_t)-me->credit + us(NEW_CREDIT_US));
        WRITE_ONCE(set.not_before, now + *nap);
        return contended(now) ? SLEEP : NAP;
    }
    if (READ_ONCE(set.waiting)) // calls are there, but not the cores to make them
        return LOOK_ON;
    // Programs call at surprisingly regular times: sleep until shortly before the next. Where they
    // do not, a nap is a risk that is run only to save credit.
    uint64_t lead = 2 * set.deviation, cap = set.gap / SHARE, worth = us(NAP_MIN_US);
    if (lead > cap) {
        if (me->credit > (int64_t)us(CREDIT_MAX_US) / 2)
            return LOOK_ON;
        lead = cap;
        worth = us(NAP_RISKY_US);
    }
    uint64_t margin = idle + lead + me->lateness + us(WAKE_US);
    if (me->napped_for != called_at && idle > us(TAIL_US) && set.gap > margin + worth) {
        *nap = set.gap - margin;
        me->napped_for = called_at;
        return NAP;
    }
    return LOOK_ON;
}

static bool serve_all(struct poller *me, uint64_t *answered)
{
    bool any = false;
    unsigned count = ros_groups_count();
    for (unsigned i = 0; i < count; i++) {
        struct ros_group *group = ros_group_at(i);
        if (READ_ONCE(group->busy) && serve(me, group)) {
            any = true;
            ++*answered;
        }
    }
    return any;
}

// Let partners that wait for their turn go on.
static void next_turn(uint64_t now, unsigned partners)
{
    WRITE_ONCE(set.turn_at, now);
    __atomic_add_fetch(&set.turn, 1, __ATOMIC_RELEASE);
    sys3(__NR_futex, &set.turn, FUTEX_WAKE_PRIVATE, partners);
}

static bool retired(const struct poller *me)
{
    return READ_ONCE(set.retiring) || READ_ONCE(set.rights) != me->rights;
}

// Look at the slots until it does not pay. Returns how to sleep.
static enum verdict look(struct poller *me, uint64_t *nap)
{
    enum { TURNS = 16 };
    uint64_t before = rdtsc();
    account(me, before, false);
    __atomic_add_fetch(&set.looking, 1, __ATOMIC_SEQ_CST);
    enum verdict verdict = LOOK_ON;
    while (verdict == LOOK_ON && !retired(me)) {
        uint64_t answered = 0;
        if (!READ_ONCE(set.control->open)) // we begin, or have been taken for lost
            WRITE_ONCE(set.control->open, 1);
        for (unsigned turn = 0; turn < TURNS; turn++) {
            if (!serve_all(me, &answered)) {
                __builtin_ia32_pause();
                continue;
            }
            uint64_t now = rdtsc();
            learn(now, false);
            me->last = now;
        }
        uint64_t now = rdtsc();
        if (READ_ONCE(set.timeouts) && __atomic_exchange_n(&set.timeouts, 0, __ATOMIC_RELAXED))
            lose(me, now, us(TIMEOUT_US));
        bool preempted = !answered && now - before > us(PREEMPTED_US);
        if (preempted) {
            lose(me, now, now - before);
            me->resumed_at = now;
        }
        // Behind an exit caches are cold: the program loses half as much again.
        me->credit += (int64_t)(answered * set.exit_cycles * 3 / 2);
        account(me, now, !preempted);
        before = now;
        if (READ_ONCE(set.waiting) &&
            (now - set.turn_at > us(TURN_US) ||
             (now - me->last > us(BURST_US) && now - set.turn_at > us(BURST_US))))
            next_turn(now, 1);
        verdict = judge(me, now, nap);
    }
    if (__atomic_sub_fetch(&set.looking, 1, __ATOMIC_SEQ_CST) == 0)
        __atomic_store_n(&set.control->open, 0, __ATOMIC_SEQ_CST);
    if (READ_ONCE(set.waiting))
        next_turn(rdtsc(), INT32_MAX);
    // Somebody may have posted before he could see that.
    uint64_t answered = 0;
    serve_all(me, &answered);
    return verdict;
}

static void poller_main(void *block)
{
    struct ros_group *group = block;
    struct poller *me = group->poller;
    ros_signal_thread_init(group);
    WRITE_ONCE(me->tid, group->id.tid);
    sys2(__NR_prctl, PR_SET_NAME, "mv-poller");
    sys2(__NR_prctl, PR_SET_TIMERSLACK, 1);
    me->last = me->credit_at = rdtsc();
    me->credit = contended(me->last) ? 0 : (int64_t)us(CREDIT_MAX_US);
    while (!retired(me)) {
        uint64_t nap = 0;
        WRITE_ONCE(me->wake, 1);
        enum verdict verdict = look(me, &nap);
        if (retired(me))
            break;
        if (verdict == SLEEP && me->credit < 0)
            WRITE_ONCE(set.not_before, rdtsc() + us(CONTENDED_US));
        uint64_t begin = rdtsc();
        struct __kernel_timespec time = {.tv_nsec = (long long)(nap * 1000 / set.us)};
        WRITE_ONCE(me->cpu, ros_cpus_current());
        WRITE_ONCE(me->wake, 0);
        sys4(__NR_futex, &me->wake, FUTEX_WAIT_PRIVATE, 0, verdict == NAP ? &time : NULL);
        uint64_t now = rdtsc();
        if (READ_ONCE(me->wake)) // woken, since a call could not wait
            me->last = now;
        else if (now - begin > nap + us(PREEMPTED_US))
            lose(me, now, now - begin - nap);
        else if (now - begin > nap)
            approach(&me->lateness, now - begin - nap, 8);
        if (verdict == SLEEP)
            me->last = rdtsc();
    }
    ros_sigset all = ~0ULL;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all));
    ros_exit_asm(&group->busy, 0);
}

// ---- Making and waking -------------------------------------------------------------------------

// A thread with the rights of the calling one, since it is its child. Errors: negative errno.
static int64_t make(struct poller *poller)
{
    enum {
        SHARED = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    };
    if (!poller->block) {
        int err = ros_group_make_block(&poller->block);
        if (err)
            return err;
    }
    struct ros_group *block = poller->block;
    *poller = (struct poller){.block = block, .rights = set.rights};
    block->poller = poller;
    block->busy = 1;
    ros_sigset closed = ~ROS_SYNC_SIGNALS, mask;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, &mask, sizeof(mask));
    uint64_t args[5] = {SHARED, (uint64_t)block + GROUP_BLOCK};
    int64_t tid = mv_clone(__NR_clone, args, poller_main, block);
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
    if (tid < 0)
        block->busy = 0;
    else
        WRITE_ONCE(poller->tid, (uint32_t)tid);
    return tid;
}

// Errors: negative errno.
static int64_t confine(const struct poller *poller, const struct ros_cpus *cpus)
{
    return sys3(__NR_sched_setaffinity, poller->tid, sizeof(*cpus), cpus);
}

static void wake(struct poller *poller)
{
    WRITE_ONCE(poller->wake, 1);
    sys3(__NR_futex, &poller->wake, FUTEX_WAKE_PRIVATE, 1);
}

// Have a poller that waits to run do so elsewhere than on the CPU where the caller is about to run
// its virtual CPU. It is confined for that moment only, and not at all where cores are short: that
// spoils Linux's own balance.
static void move_away(struct poller *poller, const struct ros_places *places)
{
    confine(poller, &places->others);
    confine(poller, &places->all);
}

// Wake a poller that sleeps. Linux prefers the CPU where a thread was last, so only one that was
// where the caller is needs to be told.
static void wake_elsewhere(struct poller *poller, const struct ros_places *places)
{
    bool here = READ_ONCE(poller->cpu) == places->own && !contended(rdtsc());
    if (here)
        confine(poller, &places->others);
    wake(poller);
    if (here)
        confine(poller, &places->all);
}

// True if a group that the pollers there are may act for lives.
static bool rights_in_use(void)
{
    for (unsigned i = 0; i < ros_groups_count(); i++)
        if (READ_ONCE(ros_group_at(i)->busy) && READ_ONCE(ros_group_at(i)->rights) == set.rights)
            return true;
    return false;
}

static void wake_all(void)
{
    for (unsigned i = 0; i < POLLERS_MAX; i++)
        if (set.poller[i].block && READ_ONCE(set.poller[i].block->busy))
            wake(&set.poller[i]);
}

// With the lock held: wake a poller that sleeps, or make one.
static void wake_or_make(const struct ros_group *group, uint64_t now)
{
    struct ros_places places;
    if (set.rights != group->rights) {
        if (set.rights && rights_in_use())
            return;
        WRITE_ONCE(set.rights, group->rights);
        ros_route_forget(0, ~0ULL);
        wake_all(); // they find that they are retired
    }
    if (!ros_cpus_find_places(&set.cpus, &places)) {
        WRITE_ONCE(set.not_before, now + us(NO_CPU_US));
        return;
    }
    struct poller *free = NULL;
    for (unsigned i = 0; i < set.max; i++) {
        struct poller *poller = &set.poller[i];
        if (!poller->block || !__atomic_load_n(&poller->block->busy, __ATOMIC_ACQUIRE)) {
            free = free ? free : poller;
        } else if (!READ_ONCE(poller->wake) && poller->rights == set.rights) {
            wake_elsewhere(poller, &places);
            return;
        }
    }
    if (free && (make(free) < 0 || (ros_cpus_count(&set.cpus) && confine(free, &set.cpus) < 0)))
        WRITE_ONCE(set.not_before, now + us(NO_CPU_US)); // a limit on threads, say
}

void ros_pollers_want(struct ros_group *group)
{
    uint64_t now = rdtsc(), missed = READ_ONCE(set.missed_at);
    if (set.control)
        learn(now, true);
    if (!set.control || set.retiring || now < READ_ONCE(set.not_before))
        return;
    WRITE_ONCE(set.missed_at, now);
    if (now - missed > us(RARE_US))
        WRITE_ONCE(set.missed, 0);
    unsigned wanted = __atomic_add_fetch(&set.missed, 1, __ATOMIC_RELAXED);
    if (set.mode == ROS_CHANNEL_AUTO && wanted < (set.rights ? WAKE_MISSES : MAKE_MISSES))
        return;
    if (READ_ONCE(set.looking) >= set.max)
        return;
    mv_lock(&set.lock);
    wake_or_make(group, now);
    mv_unlock(&set.lock);
}

void ros_pollers_timed_out(void)
{
    struct ros_places places;
    if (!set.control) // without pollers nobody but an enemy leaves a request behind
        return;
    // Until the poller runs again nobody needs to wait for it.
    WRITE_ONCE(set.control->open, 0);
    __atomic_add_fetch(&set.timeouts, 1, __ATOMIC_RELAXED);
    if (contended(rdtsc())) // then it is left where it is (move_away())
        return;
    // It may be our CPU that it waits for: the virtual CPU has moved since it was placed.
    mv_lock(&set.lock);
    if (ros_cpus_find_places(&set.cpus, &places))
        for (unsigned i = 0; i < set.max; i++)
            if (set.poller[i].block && READ_ONCE(set.poller[i].block->busy))
                move_away(&set.poller[i], &places);
    mv_unlock(&set.lock);
}

void ros_pollers_count_running(int change)
{
    __atomic_add_fetch(&set.running, (uint32_t)change, __ATOMIC_RELAXED);
}

bool ros_pollers_crowded(void)
{
    unsigned looking = READ_ONCE(set.looking);
    return looking && !READ_ONCE(set.control->open) &&
           READ_ONCE(set.running) + looking >= set.cpus_allowed;
}

void ros_pollers_wait_turn(void)
{
    uint32_t turn = __atomic_load_n(&set.turn, __ATOMIC_ACQUIRE);
    struct __kernel_timespec time = {.tv_nsec = TURN_MAX_NS};
    __atomic_add_fetch(&set.waiting, 1, __ATOMIC_SEQ_CST);
    if (READ_ONCE(set.looking))
        sys4(__NR_futex, &set.turn, FUTEX_WAIT_PRIVATE, turn, &time);
    __atomic_sub_fetch(&set.waiting, 1, __ATOMIC_SEQ_CST);
}

static void interrupt(struct poller *poller, uint32_t pid)
{
    WRITE_ONCE(poller->interrupt, 1);
    sys3(__NR_tgkill, pid, poller->tid, SIGTRAP);
}

void ros_pollers_end(void)
{
    WRITE_ONCE(set.retiring, true);
    wake_all();
    for (unsigned i = 0; i < POLLERS_MAX; i++)
        while (set.poller[i].block &&
               __atomic_load_n(&set.poller[i].block->busy, __ATOMIC_ACQUIRE)) {
            interrupt(&set.poller[i], set.poller[i].block->id.pid);
            sys0(__NR_sched_yield);
        }
}

// ---- Signals -----------------------------------------------------------------------------------

void ros_poller_interrupt(const struct ros_group *group)
{
    struct poller *poller = READ_ONCE(group->served_by);
    if (poller)
        interrupt(poller, group->id.pid);
}

void ros_poller_signal(struct ros_group *self, int sig, siginfo_t *info, struct ucontext *uc)
{
    // Where the user may have no more signals queued, Linux forgets who has sent one.
    bool ours = __atomic_exchange_n(&self->poller->interrupt, 0, __ATOMIC_ACQ_REL);
    if (sig == SIGTRAP && (ours || info->si_code == SI_TKILL)) {
        ros_interrupt_syscall(uc);
        return;
    }
    // Sent to the process, and Linux chose us. Only the sender may say what it says: the partner
    // gets an empty one and finds the original with its group.
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        struct ros_group *group = ros_group_at(i);
        if (!READ_ONCE(group->busy) || group->id.pid != self->id.pid)
            continue;
        group->forwarded = *info;
        __atomic_store_n(&group->has_forwarded, true, __ATOMIC_RELEASE);
        if (sys3(__NR_tgkill, group->id.pid, group->id.tid, sig) == 0)
            return;
        group->has_forwarded = false;
    }
}
