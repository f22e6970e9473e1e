/// @file
/// A clock from the time-stamp counter, sleep, and timers.
#ifndef AEROKERNEL_TIME_H
#define AEROKERNEL_TIME_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Nanoseconds since an arbitrary moment: the time-stamp counter at the rate that KVM tells
/// (without it: the processor, or an interval timer), which differs from CLOCK_MONOTONIC by what
/// NTP adjusts.
uint64_t ak_clock(void);
/// The time-stamp counter's frequency, Hz.
uint64_t ak_clock_hz(void);

/// Let others run for at least that long.
void ak_sleep(uint64_t ns);

/// A timer of one virtual CPU. Its function is called at the first scheduling point (a wait, a
/// yield, an idle moment) of that virtual CPU after the deadline, on the stack of whoever is there,
/// and must not wait. The structure belongs to the AeroKernel while the timer is armed.
struct ak_timer {
    uint64_t deadline_ns;
    void (*fn)(void *);
    void *arg;
    struct ak_timer *next;
    bool armed;
};
/// Arm a timer of this virtual CPU, which is not armed. deadline_ns: on the scale of ak_clock().
void ak_timer_start(struct ak_timer *timer, uint64_t deadline_ns, void (*fn)(void *), void *arg);
/// Disarm it, on the virtual CPU that armed it. @return false if it was not armed (any more).
bool ak_timer_stop(struct ak_timer *timer);

#ifdef __cplusplus
}
#endif

#endif
