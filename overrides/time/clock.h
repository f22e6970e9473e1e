// Clocks as system calls, by Linux's vDSO, which reads them without Linux; the process's processor
// time, by what Linux has said a moment ago and the time since then.
//
// Every function may return AK_FALLBACK: Linux answers.
#ifndef CLOCK_H
#define CLOCK_H

#include <linux/time.h>
#include <stdint.h>

int64_t clock_get(int clock, void *now);
int64_t clock_time_of_day(void *now);
int64_t clock_seconds(void *now);

#endif
