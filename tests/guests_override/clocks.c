// Clocks by system calls, between two looks at them that are not overridden.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int wrong;

static void check(const char *what, long right)
{
    if (!right)
        printf("%s\n", what), wrong = 1;
}

static long ns(const struct timespec *time)
{
    return time->tv_sec * 1000000000 + time->tv_nsec;
}

static void compare(int clock)
{
    struct timespec before, now, after;
    int coarse = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE;
    for (int i = 0; i < 200; i++) {
        clock_gettime(clock, &before);
        long result = syscall(SYS_clock_gettime, clock, &now);
        clock_gettime(clock, &after);
        check("clock_gettime", result == 0);
        check("order", ns(&before) <= ns(&now) && ns(&now) <= ns(&after));
        check("fine", coarse || ns(&before) < ns(&after));
    }
}

static void time_of_day(void)
{
    struct timespec before, after, coarse[2];
    struct timeval now;
    struct timezone zone;
    time_t stored;
    clock_gettime(CLOCK_REALTIME, &before);
    check("gettimeofday", syscall(SYS_gettimeofday, &now, NULL) == 0);
    clock_gettime(CLOCK_REALTIME, &after);
    long at = now.tv_sec * 1000000 + now.tv_usec;
    check("time of day", ns(&before) / 1000 <= at && at <= ns(&after) / 1000);
    check("zone", syscall(SYS_gettimeofday, &now, &zone) == 0);
    check("none", syscall(SYS_gettimeofday, NULL, NULL) == 0);
    clock_gettime(CLOCK_REALTIME_COARSE, &coarse[0]);
    time_t seconds = syscall(SYS_time, &stored);
    clock_gettime(CLOCK_REALTIME_COARSE, &coarse[1]);
    check("time", seconds == stored && coarse[0].tv_sec <= seconds && seconds <= coarse[1].tv_sec);
    check("time, not stored", syscall(SYS_time, NULL) >= seconds);
}

static void bad_ones(void)
{
    struct timespec now;
    check("bad clock", syscall(SYS_clock_gettime, 99, &now) == -1 && errno == EINVAL);
    check("bad place", syscall(SYS_clock_gettime, 1, 8) == -1 && errno == EFAULT);
    check("bad place", syscall(SYS_gettimeofday, 8, NULL) == -1 && errno == EFAULT);
    check("bad place", syscall(SYS_time, 8) == -1 && errno == EFAULT);
}

int main(void)
{
    struct timespec now;
    static const int clocks[] = {CLOCK_REALTIME,
                                 CLOCK_MONOTONIC,
                                 CLOCK_MONOTONIC_RAW,
                                 CLOCK_BOOTTIME,
                                 CLOCK_TAI,
                                 CLOCK_PROCESS_CPUTIME_ID,
                                 CLOCK_REALTIME_COARSE,
                                 CLOCK_MONOTONIC_COARSE,
                                 CLOCK_THREAD_CPUTIME_ID};
    for (unsigned i = 0; i < sizeof(clocks) / sizeof(*clocks); i++)
        compare(clocks[i]);
    time_of_day();
    bad_ones();
    // Without the vDSO the calls are still there.
    check("munmap", munmap((void *)getauxval(AT_SYSINFO_EHDR), 8192) == 0);
    check("without", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0 && ns(&now) > 0);
    printf("%s\n", wrong ? "wrong" : "right");
    return wrong;
}
