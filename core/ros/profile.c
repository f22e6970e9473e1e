// Where the program's legacy events come from and what they cost: counted in tables as they happen
// (abi/profile.h), with samples of the stack for backtraces and of the mappings for names.
//
// The cost of an event has parts. On the way there: the HRT notes when it asks (entry.S), whoever
// takes the request up looks. In the call: as measured here. Back: an exit holds the partner from
// KVM_RUN's return to the next KVM_RUN; what of that is not in a call belongs to the first event
// of the exit.

#include "ros/profile.h"

#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/time.h>
#include <linux/time_types.h>

#include "base/fds.h"
#include "base/string.h"
#include "base/sys.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/stack.h"
#include "ros/trace.h"

enum { FREE, FILLING, VALID };
enum {
    PROBES = 64,            // places at which an entry of a table may be
    SAMPLES_PART = 8,       // of a site's events so far, after which the next is sampled
    SAMPLES_OF_SITE = 48,   // different ones that are kept
    SHORT_CALL_US = 20,     // nobody asks for how long a call so short has waited,
    SHORT_CALLS_MAX = 64,   // nor is its thread's time taken before it after so many of the kind
    MAPS_FIRST_US = 4000,   // after which the mappings are noted; each next time after twice that,
    MAPS_LAST_US = 1000000, // up to so much,
    FINISH_PART = 16,       // and at the end, if so much of the process's time has passed since
};
// A stamp that is older is not of this request.
static const uint64_t stamp_age_max = 1ULL << 36;

struct mv_profile *ros_profile;

static struct {
    int fd, maps_fd;
    uint32_t process;    // index of the calling process; MV_PROFILE_PROCESSES: it has none
    uint32_t pid;        // its
    uint64_t us;         // TSC cycles a microsecond
    uint64_t begin;      // TSC of its beginning
    uint64_t noted_at;   // TSC at which the mappings were noted last
    uint64_t maps_at;    // TSC at which they are noted next
    uint64_t maps_pause; // TSC cycles until the time after that
} own = {.fd = -1, .maps_fd = -1, .process = MV_PROFILE_PROCESSES, .us = 1};

static void add(uint64_t *to, uint64_t n)
{
    if (n)
        __atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 29;
}

// ---- Tables ------------------------------------------------------------------------------------

// Take a free entry of a table. Returns false if it holds something, by now surely.
static bool claim(uint32_t *state)
{
    enum { TURNS = 1000 };
    uint32_t seen = FREE;
    if (__atomic_compare_exchange_n(state, &seen, FILLING, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE))
        return true;
    // Who fills it may have been killed.
    for (int turn = 0; turn < TURNS && seen == FILLING; turn++) {
        __builtin_ia32_pause();
        seen = __atomic_load_n(state, __ATOMIC_ACQUIRE);
    }
    return false;
}

static void publish(uint32_t *state)
{
    __atomic_store_n(state, VALID, __ATOMIC_RELEASE);
}

static struct mv_profile_site *site_of(uint32_t kind, uint32_t nr, uint64_t rip)
{
    if (own.process >= MV_PROFILE_PROCESSES)
        return NULL;
    uint64_t hash = mix(mix(own.process << 8 | kind, nr), rip);
    for (uint64_t i = 0; i < PROBES; i++) {
        struct mv_profile_site *site = &ros_profile->site[(hash + i) % MV_PROFILE_SITES];
        if (claim(&site->state)) {
            site->process = (uint16_t)own.process;
            site->kind = (uint16_t)kind;
            site->nr = nr;
            site->rip = rip;
            site->program_rip = rw_program_rip(rip);
            publish(&site->state);
            return site;
        }
        if (site->rip == rip && site->nr == nr && site->kind == kind &&
            site->process == own.process)
            return site;
    }
    return NULL;
}

static struct mv_profile_counts *rest_of(uint32_t kind, uint32_t nr)
{
    if (kind == MV_TRACE_SYSCALL)
        return &ros_profile->rest[MIN(nr, MV_PROFILE_CALLS - 1U)];
    return &ros_profile->rest[MV_PROFILE_CALLS + kind];
}

static struct mv_profile_range *range_of(uint32_t kind, uint32_t nr, uint32_t flags,
                                         uint64_t address)
{
    if (own.process >= MV_PROFILE_PROCESSES)
        return NULL;
    uint64_t place = address >> MV_PROFILE_RANGE_BITS;
    uint64_t hash = mix(mix(own.process << 8 | kind, (uint64_t)flags << 32 | nr), place);
    for (uint64_t i = 0; i < PROBES; i++) {
        struct mv_profile_range *range = &ros_profile->range[(hash + i) % MV_PROFILE_RANGES];
        if (claim(&range->state)) {
            range->process = (uint16_t)own.process;
            range->kind = (uint16_t)kind;
            range->nr = nr;
            range->flags = flags;
            range->address = address;
            publish(&range->state);
            return range;
        }
        if (range->address >> MV_PROFILE_RANGE_BITS == place && range->nr == nr &&
            range->kind == kind && range->flags == flags && range->process == own.process)
            return range;
    }
    return NULL;
}

// What address, if any, and how many bytes an event is about.
static bool address_of(const struct ros_event *event, uint64_t *address, uint64_t *bytes,
                       uint32_t *flags)
{
    const uint64_t *a = event->a;
    *flags = 0;
    *bytes = 1;
    *address = a[0];
    if (event->kind == MV_TRACE_EXCEPTION) {
        *address = a[2];
    } else if (event->kind == MV_TRACE_MERGE) {
        *bytes = a[1];
    } else if (event->kind == MV_TRACE_SYSCALL || event->kind == MV_TRACE_SYNC) {
        *bytes = a[1];
        switch (event->nr) {
        case __NR_mmap:
            *flags = MV_PROFILE_MAPPED | (a[3] & MAP_ANONYMOUS ? MV_PROFILE_ANONYMOUS : 0);
            *address = (uint64_t)event->result;
            break;
        case __NR_brk:
            *bytes = 1;
            *address = (uint64_t)event->result;
            break;
        case __NR_munmap:
        case __NR_mprotect:
        case __NR_pkey_mprotect:
        case __NR_madvise:
        case __NR_mremap:
        case __NR_msync:
        case __NR_mincore:
            break;
        default:
            return false;
        }
    } else if (event->kind != MV_TRACE_REPLICATION) {
        return false;
    }
    return *address && *address < TASK_END;
}

static void count_range(const struct ros_event *event, uint32_t kind, uint64_t cycles)
{
    uint64_t address, bytes;
    uint32_t flags;
    if (!address_of(event, &address, &bytes, &flags))
        return;
    struct mv_profile_range *range = range_of(kind, event->nr, flags, address);
    if (!range) {
        add(&ros_profile->ranges_dropped, own.process < MV_PROFILE_PROCESSES);
        return;
    }
    add(&range->count, 1);
    add(&range->cycles, cycles);
    if (READ_ONCE(range->extent) < bytes)
        WRITE_ONCE(range->extent, bytes);
}

// ---- Mappings ----------------------------------------------------------------------------------

static void note_mappings(void)
{
    uint64_t now = rdtsc(), at = 0;
    if (own.maps_fd < 0 || own.process >= MV_PROFILE_PROCESSES)
        return;
    WRITE_ONCE(own.noted_at, now);
    for (;;) {
        uint64_t index = __atomic_fetch_add(&ros_profile->chunks, 1, __ATOMIC_RELAXED);
        if (index >= MV_PROFILE_CHUNKS)
            return;
        struct mv_profile_chunk *chunk = &ros_profile->chunk[index];
        long n = sys4(__NR_pread64, own.maps_fd, chunk->text, sizeof(chunk->text), at);
        chunk->tsc = now;
        chunk->process = own.process;
        __atomic_store_n(&chunk->bytes, (uint32_t)MAX(n, 0L), __ATOMIC_RELEASE);
        if (n <= 0)
            return;
        at += (uint64_t)n;
    }
}

static void note_mappings_sometimes(uint64_t now)
{
    uint64_t due = READ_ONCE(own.maps_at);
    if (now < due || !__atomic_compare_exchange_n(&own.maps_at, &due, now + own.maps_pause, false,
                                                  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    own.maps_pause = MIN(own.maps_pause * 2, MAPS_LAST_US * own.us);
    note_mappings();
}

// ---- Samples -----------------------------------------------------------------------------------

// Whether the event, the nth of its site, is sampled. Returns for how many events the sample
// stands; 0: it is not. The first are sampled all, the others at growing distances that differ by
// chance, since programs have rhythms.
static uint64_t sampled_for(struct mv_profile_site *site, uint64_t nth)
{
    bool has_stack = site->kind == MV_TRACE_SYSCALL || site->kind == MV_TRACE_REPLICATION ||
                     site->kind == MV_TRACE_FAULT;
    uint64_t due = READ_ONCE(site->next_sample);
    if (!has_stack || !site->rip || nth < due)
        return 0;
    uint64_t distance = 1 + nth / SAMPLES_PART;
    distance += rdtsc() / 2 % distance;
    // Of threads that come here at a time, one.
    return __atomic_compare_exchange_n(&site->next_sample, &due, nth + distance, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)
               ? distance
               : 0;
}

static uint64_t hash_of(const struct ros_stack *stack, uint32_t site)
{
    uint64_t hash = site + 1;
    for (unsigned i = 0; i < stack->frames; i++)
        hash = mix(hash, stack->frame[i]);
    for (unsigned i = 0; i < stack->words; i++)
        if (stack->returns[i / 64] >> i % 64 & 1)
            hash = mix(hash, stack->word[i]);
    return hash;
}

// cycles: what the event cost; events: for how many it stands.
static void sample(struct mv_profile_site *site, struct ros_visit *visit, uint64_t cycles,
                   uint64_t events)
{
    struct ros_stack stack;
    uint32_t number = (uint32_t)(site - ros_profile->site);
    uint64_t now = rdtsc();
    note_mappings_sometimes(now);
    ros_stack_take(&stack, visit->rsp, visit->rbp, &visit->stack_end);
    uint64_t hash = hash_of(&stack, number);
    for (uint64_t i = 0; i < PROBES; i++) {
        struct mv_profile_sample *to = &ros_profile->sample[(hash + i) % MV_PROFILE_SAMPLES];
        bool may_claim = READ_ONCE(site->samples) < SAMPLES_OF_SITE;
        if (!READ_ONCE(to->state) && !may_claim)
            break;
        if (claim(&to->state)) {
            __atomic_fetch_add(&site->samples, 1, __ATOMIC_RELAXED);
            to->site = number;
            to->hash = hash;
            to->tsc = now;
            to->rsp = visit->rsp;
            to->rbp = visit->rbp;
            to->frames = stack.frames;
            to->words = stack.words;
            memcpy(to->frame, stack.frame, sizeof(to->frame));
            memcpy(to->returns, stack.returns, sizeof(to->returns));
            memcpy(to->word, stack.word, stack.words * sizeof(to->word[0]));
            publish(&to->state);
        }
        if (to->hash == hash && to->site == number) {
            add(&to->count, events);
            add(&to->cycles, cycles * events);
            return;
        }
    }
    add(&ros_profile->samples_dropped, 1);
}

// ---- Events ------------------------------------------------------------------------------------

// Nanoseconds for which the calling thread has been on a processor.
static uint64_t processor_ns(void)
{
    struct __kernel_timespec time = {0};
    sys2(__NR_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// How many calls of a kind in a row have been short.
static uint8_t *short_calls(uint32_t nr)
{
    static uint8_t counts[MV_PROFILE_CALLS];
    return &counts[MIN(nr, MV_PROFILE_CALLS - 1U)];
}

uint64_t ros_profile_requested(const struct ros_group *group)
{
    return ros_profile && !group->poller ? READ_ONCE(group->stamp->tsc) : 0;
}

// Cycles since the HRT has asked; 0 if it has not said so, or nonsense.
static uint64_t take_stamp(struct ros_group *group, uint64_t until)
{
    uint64_t stamp = READ_ONCE(group->stamp->tsc);
    WRITE_ONCE(group->stamp->tsc, 0);
    return stamp && stamp < until && until - stamp < stamp_age_max ? until - stamp : 0;
}

void ros_profile_left(struct ros_group *group)
{
    group->visit.left_at = rdtsc();
    group->visit.counts = NULL;
    group->visit.in_calls = group->visit.nested = 0;
}

void ros_profile_enters(struct ros_group *group)
{
    struct ros_visit *visit = &group->visit;
    uint64_t all = rdtsc() - visit->left_at, rest = all - MIN(visit->in_calls, all);
    visit->nested = 0;
    if (!visit->counts)
        return;
    add(&visit->counts->back, rest);
    if (visit->group)
        add(&visit->group->counts.back, rest);
}

void ros_profile_call(struct ros_group *group)
{
    struct ros_visit *visit = &group->visit;
    uint64_t begin = rdtsc();
    visit->rip = group->frame->rip;
    visit->rsp = group->frame->rsp;
    visit->rbp = group->frame->rbp;
    uint32_t nr = (uint32_t)READ_ONCE(group->frame->rax);
    visit->may_wait = ros_route_may_wait(nr);
    visit->timed = visit->may_wait && READ_ONCE(*short_calls(nr)) < SHORT_CALLS_MAX;
    if (visit->timed)
        visit->processor_ns = processor_ns();
    visit->call_at = rdtsc();
    if (visit->group)
        add(&visit->group->overhead, visit->call_at - begin);
}

// Fill in where the program is; returns when the event's call began.
static uint64_t place(struct ros_group *group, const struct ros_event *event, uint64_t begin)
{
    struct ros_visit *visit = &group->visit;
    if (event->kind == MV_TRACE_SYSCALL)
        return visit->call_at; // all is known
    visit->rip = event->a[1];
    visit->rsp = group->frame->rsp;
    visit->rbp = group->frame->rbp;
    if (event->kind == MV_TRACE_SYNC || event->kind == MV_TRACE_MERGE)
        visit->rip = group->frame->rip;
    if (event->kind == MV_TRACE_SYNC)
        visit->rbp = group->stamp->rbp;
    return begin;
}

static void count(struct mv_profile_counts *to, const struct mv_profile_counts *by)
{
    add(&to->sync, by->sync);
    add(&to->exits, by->exits);
    add(&to->stamped, by->stamped);
    add(&to->wait, by->wait);
    add(&to->call, by->call);
    add(&to->blocked, by->blocked);
}

// For how much of a call, that took so long, its thread was on no processor.
static uint64_t waited(const struct ros_visit *visit, uint32_t nr, uint64_t call)
{
    uint8_t *in_a_row = short_calls(nr), before = READ_ONCE(*in_a_row);
    bool is_short = call < SHORT_CALL_US * own.us;
    WRITE_ONCE(*in_a_row, is_short ? (uint8_t)MIN(before + 1, SHORT_CALLS_MAX) : 0);
    if (is_short)
        return 0;
    if (!visit->timed)
        return call; // such calls had been short for long: it is not work that makes this one long
    uint64_t on = (processor_ns() - visit->processor_ns) / 1000 * own.us;
    return call - MIN(on, call);
}

// Of the way there and of the call, what the event costs.
static void measure(struct ros_group *group, const struct ros_event *event, uint64_t begin,
                    uint64_t end, struct mv_profile_counts *ret)
{
    struct ros_visit *visit = &group->visit;
    bool is_call = event->kind == MV_TRACE_SYSCALL;
    ret->call = end > begin ? end - begin : 0;
    ret->call -= MIN(ret->call, visit->nested);
    if (event->kind == MV_TRACE_SYNC) {
        ret->sync = 1;
        ret->wait = take_stamp(group, begin);
        if (ret->wait && ret->wait < READ_ONCE(ros_profile->sync_wait_min))
            WRITE_ONCE(ros_profile->sync_wait_min, ret->wait);
        return;
    }
    if (event->kind == MV_TRACE_MERGE)
        visit->nested += ret->call; // the event that it is part of ends later
    else
        visit->nested = 0;
    if (!visit->counts) {
        ret->exits = 1;
        ret->wait = is_call ? take_stamp(group, visit->left_at) : 0;
        ret->stamped = ret->wait != 0;
    }
    if (is_call && visit->may_wait)
        ret->blocked = waited(visit, event->nr, ret->call);
}

// An event that no partner's or poller's call belongs to: a window merged before the first group
// begins, or by a poller.
static void count_alone(const struct ros_event *event, uint64_t begin, uint64_t end)
{
    struct mv_profile_site *site = site_of(event->kind, event->nr, 0);
    struct mv_profile_counts *to = site ? &site->counts : rest_of(event->kind, event->nr);
    add(&to->count, 1);
    add(&to->call, end - begin);
    count_range(event, event->kind, end - begin);
}

void ros_profile_event(struct ros_group *group, const struct ros_event *event, uint64_t begin,
                       uint64_t end)
{
    if (event->kind == MV_TRACE_GROUP_START) {
        ros_profile_group(group);
        return;
    }
    if (!group || group->poller) {
        count_alone(event, begin, end);
        return;
    }
    struct ros_visit *visit = &group->visit;
    if (visit->group)
        WRITE_ONCE(visit->group->last, end);
    if (event->kind == MV_TRACE_GROUP_END) {
        if (visit->group)
            WRITE_ONCE(visit->group->ended, 1);
        return;
    }
    // The fork that this process comes from is a call of its parent's.
    if (event->kind == MV_TRACE_SYSCALL && !visit->call_at)
        return;
    uint32_t kind = event->kind == MV_TRACE_SYNC ? MV_TRACE_SYSCALL : event->kind;
    struct mv_profile_counts cost = {0};
    measure(group, event, place(group, event, begin), end, &cost);
    struct mv_profile_site *site = site_of(kind, event->nr, visit->rip);
    struct mv_profile_counts *to = site ? &site->counts : rest_of(kind, event->nr);
    uint64_t nth = __atomic_add_fetch(&to->count, 1, __ATOMIC_RELAXED);
    count(to, &cost);
    if (visit->group) {
        add(&visit->group->counts.count, 1);
        count(&visit->group->counts, &cost);
    }
    uint64_t cycles = cost.wait + cost.call - cost.blocked;
    count_range(event, kind, cycles);
    uint64_t events = site ? sampled_for(site, nth) : 0;
    if (events)
        sample(site, visit, cycles, events);
    uint64_t taken = rdtsc() - end;
    if (visit->group)
        add(&visit->group->overhead, taken);
    if (event->kind == MV_TRACE_SYNC)
        return;
    if (event->kind == MV_TRACE_SYSCALL)
        visit->call_at = 0;
    if (!visit->counts)
        visit->counts = to;
    visit->in_calls += cost.call + taken;
}

// ---- Beginning and end -------------------------------------------------------------------------

void ros_profile_open(struct mv_profile *mapped, int fd)
{
    ros_profile = mapped;
    mv_fd_own(&own.fd, fd);
}

void ros_profile_init(struct mv_control *control, uint64_t exit_cycles, uint64_t tsc_hz)
{
    if (!ros_profile)
        return;
    ros_profile->exit_cycles = exit_cycles;
    own.us = MAX(tsc_hz / 1000000, 1ULL);
    control->stamp = 1;
}

void ros_profile_process(void)
{
    if (!ros_profile)
        return;
    uint64_t index = __atomic_fetch_add(&ros_profile->processes, 1, __ATOMIC_RELAXED);
    uint64_t now = rdtsc();
    own.process = (uint32_t)MIN(index, (uint64_t)MV_PROFILE_PROCESSES);
    own.pid = (uint32_t)sys0(__NR_getpid);
    own.begin = own.noted_at = now;
    own.maps_pause = MAPS_FIRST_US * own.us;
    own.maps_at = now + own.maps_pause;
    mv_fd_close(&own.maps_fd); // it shows the parent's
    long fd = sys3(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        mv_fd_own(&own.maps_fd, (int)fd);
    if (index >= MV_PROFILE_PROCESSES)
        return;
    struct mv_profile_process *process = &ros_profile->process[index];
    process->pid = own.pid;
    process->parent = (uint32_t)sys0(__NR_getppid);
    process->ring = ros.ring;
    process->begin = now;
    size_t length = MIN(strlen(ros.exe_path), sizeof(process->path) - 1);
    memcpy(process->path, ros.exe_path, length);
    publish(&process->state);
}

void ros_profile_group(struct ros_group *group)
{
    if (!ros_profile)
        return;
    group->visit = (struct ros_visit){.left_at = rdtsc()};
    uint64_t index = __atomic_fetch_add(&ros_profile->groups, 1, __ATOMIC_RELAXED);
    if (index >= MV_PROFILE_GROUPS)
        return;
    struct mv_profile_group *to = &ros_profile->group[index];
    to->process = own.process;
    to->pid = group->id.pid;
    to->tid = group->id.tid;
    to->begin = to->last = group->visit.left_at;
    publish(&to->state);
    group->visit.group = to;
}

void ros_profile_finish(void)
{
    if (!ros_profile)
        return;
    // It may only be a thread that ends, one of many.
    uint64_t now = rdtsc();
    if (now - READ_ONCE(own.noted_at) > (now - own.begin) / FINISH_PART)
        note_mappings();
    // A child in the same memory, of vfork say, is not the process whose end this is.
    if (own.process < MV_PROFILE_PROCESSES && own.pid == (uint32_t)sys0(__NR_getpid))
        WRITE_ONCE(ros_profile->process[own.process].end, now);
}

int ros_profile_inherit(void)
{
    enum { FROM = 100 }; // above what programs use for themselves
    return own.fd < 0 ? -1 : (int)sys3(__NR_fcntl, own.fd, F_DUPFD, FROM);
}
