/// @file
/// AeroKernel threads: made, scheduled and ended without Linux.
///
/// A thread belongs to one virtual CPU for its whole life and runs when the others of that CPU
/// yield, wait, sleep or end; nothing preempts it. It has a stack of its own and shares
/// thread-local storage with the program's thread of that virtual CPU. System calls it makes are
/// executed by that thread's partner, and while they take their time nobody else runs on the
/// virtual CPU.
///
/// None of these functions may be called from a signal handler.
#ifndef AEROKERNEL_THREAD_H
#define AEROKERNEL_THREAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ak_thread;

/// This virtual CPU.
#define AK_CPU_THIS (~0u)

struct ak_thread_options {
    unsigned cpu;      ///< virtual CPU to run on; AK_CPU_THIS
    size_t stack_size; ///< bytes, rounded up to a power of two of pages; 0: 64 KiB
};

/// Make a thread that calls fn(arg).
/// @param options NULL for the defaults.
/// @return 0; -EINVAL: no such virtual CPU has attached itself; -ENOMEM.
int ak_thread_create(struct ak_thread **ret, void *(*fn)(void *), void *arg,
                     const struct ak_thread_options *options);

/// Wait for a thread's end and free it. Only one may wait for a thread.
/// @return what fn returned, or what the thread gave to ak_thread_exit().
void *ak_thread_join(struct ak_thread *thread);

/// Let a thread free itself at its end; it must not be joined.
void ak_thread_detach(struct ak_thread *thread);

/// End the calling thread, which is not the program's own thread of the virtual CPU.
__attribute__((noreturn)) void ak_thread_exit(void *result);

/// The calling thread; the program's own thread of a virtual CPU is one, too.
struct ak_thread *ak_thread_self(void);

/// Let the other threads that are ready on this virtual CPU run first.
void ak_yield(void);

#ifdef __cplusplus
}
#endif

#endif
