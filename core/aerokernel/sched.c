// Threads: cooperative, bound to a virtual CPU, scheduled on the stack of whoever waits. A virtual
// CPU with nothing to do looks for a while and then sleeps.

#include "include/aerokernel/thread.h"

#include <asm/errno.h>

#include "aerokernel/kernel.h"
#include "base/format.h"
#include "include/aerokernel/console.h"
#include "include/aerokernel/memory.h"

#define CANARY 0x6b636174732d6b61ULL
#define STACK_DEFAULT KIB(64)
#define STACK_ORDER 4u // of STACK_DEFAULT
// How long an idle virtual CPU looks before it sleeps: about what waking it costs.
#define LOOK_NS 20000

// ---- Time ---------------------------------------------------------------------------------------

uint64_t ak_clock_hz(void)
{
    return ak_machine->tsc_hz;
}

uint64_t ak_clock(void)
{
    return (uint64_t)((unsigned __int128)rdtsc() * ak_machine->ns_per_tick >> 32);
}

void ak_timer_start(struct ak_timer *timer, uint64_t deadline_ns, void (*fn)(void *), void *arg)
{
    struct ak_timer **at = &ak_local()->timers;
    while (*at && (*at)->deadline_ns <= deadline_ns)
        at = &(*at)->next;
    *timer = (struct ak_timer){
        .deadline_ns = deadline_ns, .fn = fn, .arg = arg, .next = *at, .armed = true};
    *at = timer;
}

bool ak_timer_stop(struct ak_timer *timer)
{
    if (!timer->armed)
        return false;
    struct ak_timer **at = &ak_local()->timers;
    while (*at && *at != timer)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = timer->next;
    timer->armed = false;
    return true;
}

void ak_poll(struct ak_local *cpu)
{
    while (cpu->timers && cpu->timers->deadline_ns <= ak_clock()) {
        struct ak_timer *timer = cpu->timers;
        cpu->timers = timer->next;
        timer->armed = false;
        timer->fn(timer->arg);
    }
    while (READ_ONCE(cpu->calls)) {
        ak_spin_lock(&cpu->lock);
        struct ak_cpu_call *call = cpu->calls;
        cpu->calls = call ? call->next : NULL;
        ak_spin_unlock(&cpu->lock);
        if (!call)
            break;
        call->fn(call->arg);
        ak_free(call);
    }
}

// ---- Idleness -----------------------------------------------------------------------------------

void ak_wake(struct ak_local *cpu)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(cpu->asleep, __ATOMIC_RELAXED) &&
        __atomic_exchange_n(cpu->asleep, 0, __ATOMIC_SEQ_CST))
        ak_platform_wake(cpu);
}

static bool has_work(const struct ak_local *cpu)
{
    return READ_ONCE(cpu->ready_first) || READ_ONCE(cpu->calls) || READ_ONCE(cpu->release);
}

// Wait for something to do; at most until the next timer.
static void idle(struct ak_local *cpu)
{
    uint64_t begin = ak_clock(), until = cpu->timers ? cpu->timers->deadline_ns : ~0ULL, now;
    do {
        __builtin_ia32_pause();
        if (has_work(cpu))
            return;
        now = ak_clock();
        if (now >= until)
            return;
    } while (now - begin < LOOK_NS);
    __atomic_store_n(cpu->asleep, 1, __ATOMIC_SEQ_CST);
    if (!has_work(cpu))
        ak_platform_sleep(cpu, until == ~0ULL ? until : until - now);
    __atomic_store_n(cpu->asleep, 0, __ATOMIC_SEQ_CST);
}

// ---- Scheduling ---------------------------------------------------------------------------------

void ak_ready(struct ak_thread *thread)
{
    struct ak_local *cpu = thread->cpu;
    thread->next = NULL;
    ak_spin_lock(&cpu->lock);
    if (cpu->ready_first)
        cpu->ready_last->next = thread;
    else
        cpu->ready_first = thread;
    cpu->ready_last = thread;
    ak_spin_unlock(&cpu->lock);
    ak_wake(cpu);
}

static struct ak_thread *take_ready(struct ak_local *cpu)
{
    if (!READ_ONCE(cpu->ready_first))
        return NULL;
    ak_spin_lock(&cpu->lock);
    struct ak_thread *thread = cpu->ready_first;
    cpu->ready_first = thread->next;
    ak_spin_unlock(&cpu->lock);
    return thread;
}

static void free_thread(struct ak_thread *thread)
{
    struct ak_local *cpu = ak_local();
    uint64_t *stack = thread->stack;
    if (thread->stack_order == STACK_ORDER && cpu->stacks_count < AK_STACK_CACHE)
        cpu->stacks[cpu->stacks_count++] = stack;
    else
        ak_pages_free(stack);
}

static void check_stack(const struct ak_thread *thread)
{
    if (!thread->stack || *thread->stack == CANARY)
        return;
    ak_print("AeroKernel: a thread has overrun its stack; give it a larger one");
    ak_platform_overrun();
}

// What a thread does first when it has been switched to: now the stack of one that has ended is
// free.
static void arrive(struct ak_local *cpu)
{
    struct ak_thread *dead = cpu->dead;
    cpu->dead = NULL;
    if (dead &&
        __atomic_exchange_n(&dead->fate, AK_THREAD_GONE, __ATOMIC_ACQ_REL) == AK_THREAD_DETACHED)
        free_thread(dead);
}

void ak_block(struct ak_local *cpu)
{
    struct ak_thread *self = cpu->current, *next;
    for (;;) {
        ak_poll(cpu);
        next = take_ready(cpu);
        if (next == self)
            return;
        if (next)
            break;
        idle(cpu);
    }
    check_stack(self);
    cpu->current = next;
    ak_switch(&self->rsp, next->rsp);
    arrive(cpu);
}

void ak_yield(void)
{
    struct ak_local *cpu = ak_local();
    ak_poll(cpu);
    if (!READ_ONCE(cpu->ready_first))
        return;
    ak_ready(cpu->current);
    ak_block(cpu);
}

static void wake_sleeper(void *thread)
{
    ak_ready(thread);
}

void ak_sleep(uint64_t ns)
{
    struct ak_local *cpu = ak_local();
    struct ak_timer timer;
    ak_timer_start(&timer, ak_clock() + ns, wake_sleeper, cpu->current);
    ak_block(cpu);
}

void ak_cpu_serve(void)
{
    struct ak_local *cpu = ak_local();
    while (!__atomic_exchange_n(&cpu->release, false, __ATOMIC_ACQ_REL)) {
        ak_poll(cpu);
        if (READ_ONCE(cpu->ready_first))
            ak_yield();
        else
            idle(cpu);
    }
}

int ak_cpu_release(unsigned number)
{
    struct ak_local *cpu = ak_local_of(number);
    if (!cpu)
        return -EINVAL;
    __atomic_store_n(&cpu->release, true, __ATOMIC_RELEASE);
    ak_wake(cpu);
    return 0;
}

// ---- Threads ------------------------------------------------------------------------------------

// The first function of every thread (switch.S).
_Noreturn void ak_thread_main(void);
void ak_thread_main(void)
{
    struct ak_local *cpu = ak_local();
    struct ak_thread *self = cpu->current;
    arrive(cpu);
    ak_thread_exit(self->fn(self->arg));
}

// What ak_switch() finds on the stack of a new thread.
struct first_frame {
    uint32_t mxcsr, fcw;
    uint64_t r15, r14, r13, r12, rbp, rbx, rip;
};

static uint64_t *take_stack(struct ak_local *cpu, unsigned order)
{
    if (order == STACK_ORDER && cpu->stacks_count)
        return cpu->stacks[--cpu->stacks_count];
    return ak_pages_alloc(order);
}

int ak_thread_create(struct ak_thread **ret, void *(*fn)(void *), void *arg,
                     const struct ak_thread_options *options)
{
    struct ak_local *here = ak_local();
    struct ak_local *cpu = options ? ak_local_of(options->cpu) : here;
    size_t size = options && options->stack_size ? options->stack_size : STACK_DEFAULT;
    unsigned order = 0;
    while (order <= AK_ORDER_MAX && PAGE_SIZE << order < size)
        order++;
    if (!cpu)
        return -EINVAL;
    uint64_t *stack = take_stack(here, order);
    if (!stack)
        return -ENOMEM;
    *stack = CANARY;
    struct ak_thread *thread = (struct ak_thread *)((char *)stack + (PAGE_SIZE << order)) - 1;
    thread = (struct ak_thread *)ALIGN_DOWN((uint64_t)thread, 64);
    struct first_frame *frame = (struct first_frame *)thread - 1;
    *frame = (struct first_frame){.mxcsr = 0x1f80, .fcw = 0x37f, .rip = (uint64_t)ak_thread_begin};
    *thread = (struct ak_thread){.rsp = (uint64_t)frame,
                                 .cpu = cpu,
                                 .fn = fn,
                                 .arg = arg,
                                 .stack = stack,
                                 .stack_order = order};
    *ret = thread;
    ak_ready(thread);
    return 0;
}

struct ak_thread *ak_thread_self(void)
{
    return ak_local()->current;
}

void ak_thread_exit(void *result)
{
    struct ak_local *cpu = ak_local();
    struct ak_thread *self = cpu->current;
    self->result = result;
    ak_event_signal(&self->end);
    cpu->dead = self;
    ak_block(cpu);
    __builtin_unreachable();
}

void *ak_thread_join(struct ak_thread *thread)
{
    ak_event_wait(&thread->end);
    void *result = thread->result;
    ak_thread_detach(thread); // it may not have left its stack yet
    return result;
}

void ak_thread_detach(struct ak_thread *thread)
{
    if (__atomic_exchange_n(&thread->fate, AK_THREAD_DETACHED, __ATOMIC_ACQ_REL) == AK_THREAD_GONE)
        free_thread(thread);
}

// ---- Console ------------------------------------------------------------------------------------

void ak_console_write(const void *bytes, size_t size)
{
    ak_platform_write(bytes, size);
}

void ak_print(const char *format, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, format);
    size_t len = mv_vformat(line, sizeof(line) - 1, format, ap);
    va_end(ap);
    line[len++] = '\n';
    ak_console_write(line, len);
}
