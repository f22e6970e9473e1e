// Pollers: threads of the ROS that answer synchronous requests.

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
#include "ros/pace.h"
#include "ros/profile.h"
#include "ros/signal.h"
#include "ros/trace.h"

enum { POLLERS_MAX = 16 };

enum {
    TURN_US = 1000,      // how long groups that share cores with a poller go on before the next may
    NO_CPU_US = 1000000, // until we look again whether there is a core for a poller
};
enum { TURN_MAX_NS = 5000000 };

struct poller {
    struct ros_group *block; // its memory: stacks, and what handlers want of a group
    uint32_t tid;
    unsigned cpu;       // where it last went to sleep
    uint32_t wake;      // futex: 0 while it sleeps
    uint32_t interrupt; // a signal of ours is on its way
    uint64_t rights;
    struct pace pace;
    uint64_t last; // TSC of the last answer
};

static struct {
    struct mv_lock lock;
    struct mv_control *control; // NULL: there are no pollers
    unsigned max;
    struct ros_cpus cpus; // where they may run, if any bit is set
    uint64_t rights;      // of the pollers there are
    bool retiring;
    unsigned cpus_allowed; // to the process, when it started
    uint32_t looking;      // pollers that look at the slots
    uint32_t timeouts;     // requests that were not taken in time, since a poller last asked
    uint32_t running;      // groups whose virtual CPU is in the guest
    uint32_t waiting;      // partners that wait for their turn
    uint32_t turn;         // futex: changes when one may go on
    uint64_t turn_at;      // TSC of the last change
    struct poller poller[POLLERS_MAX];
} set;

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
    set.rights = 0;
    set.retiring = false;
    pace_reset();
    if (set.control)
        WRITE_ONCE(set.control->open, 0);
}

void ros_pollers_init(const struct ros_channel_config *config, struct mv_control *control,
                      uint64_t exit_cycles, uint64_t tsc_hz)
{
    pace_init(config->mode, exit_cycles, tsc_hz);
    set.cpus = config->ros_cpus;
    set.cpus_allowed = control->machine.cores;
    // A poller keeps up with several virtual CPUs, and those are what the cores are for.
    set.max = config->pollers ? config->pollers : MAX(set.cpus_allowed / 4, 1U);
    set.max = MIN(set.max, (unsigned)POLLERS_MAX);
    set.control = control;
}

// ---- Answering ---------------------------------------------------------------------------------

// Execute the request in a slot that has been taken, and say there what has become of it. Returns
// true if it is answered; one that is refused has saved nobody anything, and is its partner's.
static bool answer(struct poller *me, struct ros_group *caller)
{
    struct mv_slot *slot = caller->slot;
    uint64_t nr = READ_ONCE(slot->nr), site = READ_ONCE(slot->site), begin = rdtsc();
    struct ros_args args;
    for (unsigned i = 0; i < ARRAY_SIZE(args.a); i++)
        args.a[i] = READ_ONCE(slot->arg[i]);
    struct ros_event event = {.kind = MV_TRACE_SYNC,
                              .nr = (uint32_t)nr,
                              .result = ROS_REFUSED,
                              .a = {args.a[0], args.a[1], args.a[2], args.a[3]}};
    if (site && rw_is_hot(site)) {
        caller->rewrite = site; // the partner rewrites it and makes this call
    } else {
        me->block->id = caller->id; // for the trace, and for paths that name the process
        me->block->sighand = caller->sighand;
        event.result = ros_route_call(me->block, caller, nr, &args);
    }
    bool answered = event.result != ROS_REFUSED;
    if (answered)
        WRITE_ONCE(slot->result, event.result);
    // A profile looks at the caller's stack, which is as it was until there is an answer. Whatever
    // else there is to note is noted while the HRT goes on.
    if (answered && ros_profile)
        ros_trace_for(caller, &event, begin);
    __atomic_store_n(&slot->state, answered ? MV_SLOT_ANSWERED : MV_SLOT_REFUSED, __ATOMIC_RELEASE);
    me->last = rdtsc();
    if (answered)
        pace_answer(&me->pace, nr, begin, me->last);
    if (answered && !ros_profile)
        ros_trace_for(caller, &event, begin);
    return answered;
}

// Let the partner have the group again.
static void let_go(struct ros_group *group)
{
    if (__atomic_exchange_n(&group->server, ROS_SERVER_NOBODY, __ATOMIC_ACQ_REL) &
        ROS_SERVER_WAITED)
        sys3(__NR_futex, &group->server, FUTEX_WAKE_PRIVATE, 1);
}

// Returns true if there was a request; adds to *answered.
static bool serve(struct poller *me, struct ros_group *group, uint64_t *answered)
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
        *answered += answer(me, group);
    }
    let_go(group);
    return ours;
}

// ---- Looking -----------------------------------------------------------------------------------

static bool serve_all(struct poller *me, uint64_t *answered)
{
    bool any = false;
    unsigned count = ros_groups_count();
    for (unsigned i = 0; i < count; i++) {
        struct ros_group *group = ros_group_at(i);
        if (READ_ONCE(group->busy) && serve(me, group, answered))
            any = true;
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
static enum pace_verdict look(struct poller *me, uint64_t *nap)
{
    enum { TURNS = 16 };
    pace_look(&me->pace, rdtsc());
    __atomic_add_fetch(&set.looking, 1, __ATOMIC_SEQ_CST);
    enum pace_verdict verdict = PACE_LOOK_ON;
    while (verdict == PACE_LOOK_ON && !retired(me)) {
        uint64_t answered = 0;
        if (!READ_ONCE(set.control->open)) // we begin, or have been taken for lost
            WRITE_ONCE(set.control->open, 1);
        for (unsigned turn = 0; turn < TURNS; turn++) {
            if (!serve_all(me, &answered))
                __builtin_ia32_pause();
        }
        uint64_t now = rdtsc();
        if (READ_ONCE(set.timeouts) && __atomic_exchange_n(&set.timeouts, 0, __ATOMIC_RELAXED))
            pace_timed_out(&me->pace, now);
        pace_turn(&me->pace, now, answered);
        bool waiting = READ_ONCE(set.waiting);
        if (waiting &&
            (now - set.turn_at > pace_us(TURN_US) || (now - me->last > pace_us(PACE_BURST_US) &&
                                                      now - set.turn_at > pace_us(PACE_BURST_US))))
            next_turn(now, 1);
        verdict = pace_judge(&me->pace, now, waiting, nap);
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

// A poller that looks would keep everybody else from its core if it came before them.
static void leave_real_time(void)
{
    int64_t policy = sys1(__NR_sched_getscheduler, 0);
    uint32_t priority = 0;
    if (policy == SCHED_FIFO || policy == SCHED_RR)
        sys3(__NR_sched_setscheduler, 0, SCHED_NORMAL, &priority);
}

static void poller_main(void *block)
{
    struct ros_group *group = block;
    struct poller *me = group->poller;
    ros_signal_thread_init(group);
    WRITE_ONCE(me->tid, group->id.tid);
    sys2(__NR_prctl, PR_SET_NAME, "mv-poller");
    sys2(__NR_prctl, PR_SET_TIMERSLACK, 1);
    leave_real_time();
    me->last = rdtsc();
    pace_begin(&me->pace, me->last);
    while (!retired(me)) {
        uint64_t nap = 0;
        WRITE_ONCE(me->wake, 1);
        enum pace_verdict verdict = look(me, &nap);
        if (retired(me))
            break;
        uint64_t begin = rdtsc();
        if (verdict == PACE_SLEEP)
            pace_sleep(&me->pace, begin);
        struct __kernel_timespec time = {.tv_nsec = (long long)(nap * 1000 / pace_us(1))};
        WRITE_ONCE(me->cpu, ros_cpus_current());
        WRITE_ONCE(me->wake, 0);
        sys4(__NR_futex, &me->wake, FUTEX_WAIT_PRIVATE, 0, verdict == PACE_NAP ? &time : NULL);
        uint64_t now = rdtsc();
        if (READ_ONCE(me->wake) || verdict == PACE_SLEEP) // woken, since a call could not wait
            me->last = now;
        if (verdict == PACE_NAP)
            pace_back(&me->pace, begin + nap, now);
    }
    ros_sigset all = ~0ULL;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all));
    ros_exit_asm(&group->busy, 0);
}

// ---- Making and waking -------------------------------------------------------------------------

// A thread with the rights of the calling one, since it is its child. Errors: negative errno.
static int64_t make(struct poller *poller)
{
    if (!poller->block) {
        int err = ros_group_make_block(&poller->block);
        if (err)
            return err;
    }
    struct ros_group *block = poller->block;
    *poller = (struct poller){.block = block, .rights = set.rights};
    block->poller = poller;
    block->id = ros_self()->id; // a signal may come before it knows its own
    block->busy = 1;
    ros_sigset closed = ~ROS_SYNC_SIGNALS, mask;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, &mask, sizeof(mask));
    int64_t tid = mv_thread((uint64_t)block + GROUP_BLOCK, poller_main, block);
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
    if (tid < 0)
        block->busy = 0;
    else
        WRITE_ONCE(poller->tid, (uint32_t)tid);
    return tid;
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
    ros_cpus_confine(poller->tid, &places->others);
    ros_cpus_confine(poller->tid, &places->all);
}

// Wake a poller that sleeps. Linux prefers the CPU where a thread was last, so only one that was
// where the caller is needs to be told.
static void wake_elsewhere(struct poller *poller, const struct ros_places *places)
{
    bool here = READ_ONCE(poller->cpu) == places->own && !pace_contended(rdtsc());
    if (here)
        ros_cpus_confine(poller->tid, &places->others);
    wake(poller);
    if (here)
        ros_cpus_confine(poller->tid, &places->all);
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
        pace_rest(now + pace_us(NO_CPU_US));
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
    if (free && (make(free) < 0 || ros_cpus_confine(free->tid, &set.cpus) < 0))
        pace_rest(now + pace_us(NO_CPU_US)); // a limit on threads, say
}

void ros_pollers_want(struct ros_group *group, uint64_t nr)
{
    uint64_t now = rdtsc();
    if (!set.control)
        return;
    pace_left(nr, now);
    if (set.retiring || !pace_missed(now, set.rights != 0))
        return;
    // Those that look may be nobody's any more, and would look on while calls are made.
    if (READ_ONCE(set.looking) >= set.max && rights_in_use())
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
    if (pace_contended(rdtsc())) // then it is left where it is (move_away())
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

static void interrupt(struct poller *poller)
{
    WRITE_ONCE(poller->interrupt, 1);
    ros_signal_send_own(poller->block->id.pid, poller->tid);
}

void ros_pollers_end(void)
{
    WRITE_ONCE(set.retiring, true);
    wake_all();
    for (unsigned i = 0; i < POLLERS_MAX; i++)
        while (set.poller[i].block &&
               __atomic_load_n(&set.poller[i].block->busy, __ATOMIC_ACQUIRE)) {
            interrupt(&set.poller[i]);
            sys0(__NR_sched_yield);
        }
}

// ---- Signals -----------------------------------------------------------------------------------

void ros_poller_interrupt(const struct ros_group *group)
{
    struct poller *poller = READ_ONCE(group->served_by);
    if (poller)
        interrupt(poller);
}

void ros_poller_signal(struct ros_group *self, const siginfo_t *info, struct ucontext *uc)
{
    if (ros_signal_is_own(info, &self->poller->interrupt)) {
        ros_interrupt_syscall(uc);
        return;
    }
    // Sent to the process, and Linux chose us.
    if (!ros_signal_to_another(self, info, true))
        ros_signal_to_another(self, info, false);
}
