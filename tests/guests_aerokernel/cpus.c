// Virtual CPUs: data of their own, calls to others, time, and registers.
#include "check.h"

#ifndef AEROKERNEL_NATIVE
#include <time.h>
#include <unistd.h>
#endif

static int called;
static struct ak_event done;

static void note(void *arg)
{
    called += *(int *)arg;
    ak_event_signal(&done);
}

static void *other(void *arg)
{
    CHECK(ak_attach() == 0);
    CHECK(ak_cpu_get(3) == NULL);
    ak_cpu_set(3, "theirs");
    *(unsigned *)arg = ak_cpu();
    ak_event_signal(&done);
    serve_until_released();
    CHECK(strcmp(ak_cpu_get(3), "theirs") == 0);
    return NULL;
}

static void data_and_calls(void)
{
    elsewhere there;
    unsigned cpu;
    int two = 2;
    ak_cpu_set(3, "mine");
    CHECK(begin_elsewhere(&there, other, &cpu) == 0);
    ak_event_wait(&done);
    CHECK(strcmp(ak_cpu_get(3), "mine") == 0 && ak_cpu_get(AK_CPU_SLOTS) == NULL);
    for (int i = 0; i < 100; i++) {
        CHECK(ak_cpu_call(cpu, note, &two) == 0);
        ak_event_wait(&done);
        if (i % 10 == 0)
            ak_sleep(2000000); // long enough for it to sleep
    }
    CHECK(called == 200);
    CHECK(ak_cpu_call(ak_cpu(), note, &two) == 0);
    ak_yield();
    CHECK(called == 202);
    ak_event_wait(&done);
    CHECK(ak_cpu_call(999, note, &two) == -EINVAL);
    ak_cpu_release(cpu);
    end_elsewhere(there);
}

static int fired[3], fired_count;

static void fire(void *arg)
{
    fired[fired_count++] = (int)(size_t)arg;
}

static void timers(void)
{
    struct ak_timer timer[3], never;
    uint64_t now = ak_clock();
    ak_timer_start(&timer[0], now + 3000000, fire, (void *)3);
    ak_timer_start(&timer[1], now + 1000000, fire, (void *)1);
    ak_timer_start(&timer[2], now + 2000000, fire, (void *)2);
    ak_timer_start(&never, now + 2500000, fire, (void *)9);
    CHECK(ak_timer_stop(&never) && !ak_timer_stop(&never));
    CHECK(fired_count == 0);
    ak_sleep(4000000);
    CHECK(ak_clock() >= now + 4000000);
    CHECK(fired_count == 3 && fired[0] == 1 && fired[1] == 2 && fired[2] == 3);
}

#ifndef AEROKERNEL_NATIVE
static uint64_t linux_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void a_clock(void)
{
    // Linux's clock on both sides of each look: somebody else may have the processor in between.
    uint64_t begin[] = {linux_ns(), ak_clock(), linux_ns()};
    usleep(200000);
    uint64_t end[] = {linux_ns(), ak_clock(), linux_ns()};
    uint64_t here = end[1] - begin[1], least = end[0] - begin[2], most = end[2] - begin[0];
    CHECK(here > least - least / 20 && here < most + most / 20);
    CHECK(ak_clock_hz() > 100000000);
}
#endif

static void registers(void)
{
    uint64_t value;
    if (ak_ring() == 3) {
        CHECK(ak_cr_read(0, &value) == -EPERM);
        CHECK(ak_msr_read(0xc0000080, &value) == -EPERM);
        CHECK(ak_msr_write(0xc0000080, 0) == -EPERM);
        CHECK(ak_pmc_read(0, &value) == -EPERM);
        return;
    }
    CHECK(ak_cr_read(0, &value) == 0 && (value & 0x80010001) == 0x80010001); // PG WP PE
    CHECK(ak_cr_read(3, &value) == 0 && value);
    CHECK(ak_cr_read(4, &value) == 0 && (value & 0x20));
    CHECK(ak_cr_read(7, &value) == -EINVAL);
    CHECK(ak_msr_read(0xc0000080, &value) == 0 && (value & 0x500) == 0x500); // EFER: LME LMA
    uint64_t star;
    CHECK(ak_msr_read(0xc0000081, &star) == 0);
    CHECK(ak_msr_write(0xc0000081, star) == 0);
}

int main(void)
{
    attach();
    PART(data_and_calls);
    PART(timers);
#ifndef AEROKERNEL_NATIVE
    PART(a_clock);
#endif
    PART(registers);
    ak_print("printed %s %d %lx", "by the AeroKernel", -5, 255UL);
    return 0;
}
