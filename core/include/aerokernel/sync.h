/// @file
/// Locks, events, condition variables and barriers between AeroKernel threads of one or more
/// virtual CPUs. All objects may be initialized by zero bytes, barriers excepted. Whoever waits
/// lets other threads of the virtual CPU run; where there are none the virtual CPU looks for some
/// time and then sleeps.
///
/// None of these functions may be called from a signal handler.
#ifndef AEROKERNEL_SYNC_H
#define AEROKERNEL_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ak_thread;

/// A spin lock, for a few instructions: its holder must not wait or yield.
struct ak_spin {
    uint32_t held;
};
void ak_spin_lock(struct ak_spin *spin);
bool ak_spin_try(struct ak_spin *spin);
void ak_spin_unlock(struct ak_spin *spin);

/// Threads that wait for something, first come first served. For use within this header.
struct ak_queue {
    struct ak_spin lock;
    struct ak_thread *first, *last;
};

/// An event that happens once for one waiter: a signal that nobody waits for is kept, one of them.
struct ak_event {
    struct ak_queue waiting;
    bool happened;
};
void ak_event_wait(struct ak_event *event);
/// @param deadline_ns on the scale of ak_clock(). @return false if it came first.
bool ak_event_wait_until(struct ak_event *event, uint64_t deadline_ns);
/// Wake one waiter, or the next one to come.
void ak_event_signal(struct ak_event *event);
/// Wake all who wait now.
void ak_event_broadcast(struct ak_event *event);

/// A lock that may be held while its holder waits. Not recursive.
struct ak_mutex {
    struct ak_queue waiting;
    struct ak_thread *holder;
};
void ak_mutex_lock(struct ak_mutex *mutex);
bool ak_mutex_try(struct ak_mutex *mutex);
void ak_mutex_unlock(struct ak_mutex *mutex);

/// A condition variable; the mutex is held by the callers.
struct ak_cond {
    struct ak_queue waiting;
};
void ak_cond_wait(struct ak_cond *cond, struct ak_mutex *mutex);
void ak_cond_signal(struct ak_cond *cond);
void ak_cond_broadcast(struct ak_cond *cond);

/// A barrier for a fixed number of threads, again and again.
struct ak_barrier {
    struct ak_queue waiting;
    unsigned parties, arrived;
};
/// @param parties at least 1.
void ak_barrier_init(struct ak_barrier *barrier, unsigned parties);
/// @return true for the last one to arrive.
bool ak_barrier_wait(struct ak_barrier *barrier);

#ifdef __cplusplus
}
#endif

#endif
