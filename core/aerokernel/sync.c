// Synchronization objects: each a queue of waiting threads and a state, under the queue's lock.

#include "aerokernel/kernel.h"

void ak_spin_lock(struct ak_spin *spin)
{
    while (__atomic_exchange_n(&spin->held, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&spin->held, __ATOMIC_RELAXED))
            __builtin_ia32_pause();
}

bool ak_spin_try(struct ak_spin *spin)
{
    return !__atomic_exchange_n(&spin->held, 1, __ATOMIC_ACQUIRE);
}

void ak_spin_unlock(struct ak_spin *spin)
{
    __atomic_store_n(&spin->held, 0, __ATOMIC_RELEASE);
}

// ---- Queues; all with the lock held -------------------------------------------------------------

static void append(struct ak_queue *queue, struct ak_thread *thread)
{
    thread->next = NULL;
    if (queue->first)
        queue->last->next = thread;
    else
        queue->first = thread;
    queue->last = thread;
}

// The thread that has waited longest, or NULL.
static struct ak_thread *take(struct ak_queue *queue)
{
    struct ak_thread *thread = queue->first;
    if (thread)
        queue->first = thread->next;
    return thread;
}

// Take one thread out. Returns false if it is not there.
static bool take_this(struct ak_queue *queue, const struct ak_thread *thread)
{
    struct ak_thread **at = &queue->first, *before = NULL;
    while (*at && *at != thread) {
        before = *at;
        at = &before->next;
    }
    if (!*at)
        return false;
    *at = thread->next;
    if (queue->last == thread)
        queue->last = before;
    return true;
}

// Wait in the queue, without its lock.
static void wait(struct ak_queue *queue)
{
    struct ak_local *cpu = ak_local();
    append(queue, cpu->current);
    ak_spin_unlock(&queue->lock);
    ak_block(cpu);
}

static void wake_all(struct ak_queue *queue)
{
    for (struct ak_thread *thread; (thread = take(queue));)
        ak_ready(thread);
}

// ---- Events -------------------------------------------------------------------------------------

void ak_event_wait(struct ak_event *event)
{
    ak_spin_lock(&event->waiting.lock);
    if (event->happened) {
        event->happened = false;
        ak_spin_unlock(&event->waiting.lock);
    } else {
        wait(&event->waiting);
    }
}

struct deadline {
    struct ak_event *event;
    struct ak_thread *thread;
    bool passed;
};

static void pass(void *arg)
{
    struct deadline *deadline = arg;
    ak_spin_lock(&deadline->event->waiting.lock);
    deadline->passed = take_this(&deadline->event->waiting, deadline->thread);
    ak_spin_unlock(&deadline->event->waiting.lock);
    if (deadline->passed)
        ak_ready(deadline->thread);
}

bool ak_event_wait_until(struct ak_event *event, uint64_t deadline_ns)
{
    struct ak_timer timer;
    struct deadline deadline = {.event = event, .thread = ak_local()->current};
    ak_timer_start(&timer, deadline_ns, pass, &deadline);
    ak_event_wait(event);
    ak_timer_stop(&timer);
    return !deadline.passed;
}

void ak_event_signal(struct ak_event *event)
{
    ak_spin_lock(&event->waiting.lock);
    struct ak_thread *thread = take(&event->waiting);
    if (thread)
        ak_ready(thread);
    else
        event->happened = true;
    ak_spin_unlock(&event->waiting.lock);
}

void ak_event_broadcast(struct ak_event *event)
{
    ak_spin_lock(&event->waiting.lock);
    wake_all(&event->waiting);
    ak_spin_unlock(&event->waiting.lock);
}

// ---- Mutexes and condition variables ------------------------------------------------------------

bool ak_mutex_try(struct ak_mutex *mutex)
{
    struct ak_thread *free = NULL;
    return __atomic_compare_exchange_n(&mutex->holder, &free, ak_local()->current, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void ak_mutex_lock(struct ak_mutex *mutex)
{
    if (ak_mutex_try(mutex))
        return;
    ak_spin_lock(&mutex->waiting.lock);
    if (ak_mutex_try(mutex))
        ak_spin_unlock(&mutex->waiting.lock);
    else
        wait(&mutex->waiting); // the holder hands it over
}

void ak_mutex_unlock(struct ak_mutex *mutex)
{
    ak_spin_lock(&mutex->waiting.lock);
    struct ak_thread *next = take(&mutex->waiting);
    __atomic_store_n(&mutex->holder, next, __ATOMIC_RELEASE);
    if (next)
        ak_ready(next);
    ak_spin_unlock(&mutex->waiting.lock);
}

void ak_cond_wait(struct ak_cond *cond, struct ak_mutex *mutex)
{
    struct ak_local *cpu = ak_local();
    ak_spin_lock(&cond->waiting.lock);
    append(&cond->waiting, cpu->current);
    ak_spin_unlock(&cond->waiting.lock);
    ak_mutex_unlock(mutex);
    ak_block(cpu);
    ak_mutex_lock(mutex);
}

void ak_cond_signal(struct ak_cond *cond)
{
    ak_spin_lock(&cond->waiting.lock);
    struct ak_thread *thread = take(&cond->waiting);
    if (thread)
        ak_ready(thread);
    ak_spin_unlock(&cond->waiting.lock);
}

void ak_cond_broadcast(struct ak_cond *cond)
{
    ak_spin_lock(&cond->waiting.lock);
    wake_all(&cond->waiting);
    ak_spin_unlock(&cond->waiting.lock);
}

// ---- Barriers -----------------------------------------------------------------------------------

void ak_barrier_init(struct ak_barrier *barrier, unsigned parties)
{
    *barrier = (struct ak_barrier){.parties = parties};
}

bool ak_barrier_wait(struct ak_barrier *barrier)
{
    ak_spin_lock(&barrier->waiting.lock);
    if (++barrier->arrived < barrier->parties) {
        wait(&barrier->waiting);
        return false;
    }
    barrier->arrived = 0;
    wake_all(&barrier->waiting);
    ak_spin_unlock(&barrier->waiting.lock);
    return true;
}
