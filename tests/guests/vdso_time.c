// Proves that time is one: the vdso's clocks, the system call's and the time stamp counter never
// run against each other, in the main thread, in threads and in a forked child.
#include "guest.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>

static int64_t nanoseconds(struct timespec time)
{
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int64_t by_vdso(clockid_t clock)
{
    struct timespec time;
    NEED(clock_gettime(clock, &time) == 0);
    return nanoseconds(time);
}

static int64_t by_syscall(clockid_t clock)
{
    struct timespec time;
    NEED(syscall(SYS_clock_gettime, clock, &time) == 0);
    return nanoseconds(time);
}

static void *check(void *arg)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME,
                                       CLOCK_MONOTONIC_RAW};
    for (unsigned c = 0; c < COUNT(clocks); c++) {
        int backwards = 0;
        for (int i = 0; i < 300; i++) {
            int64_t a = by_syscall(clocks[c]), b = by_vdso(clocks[c]), d = by_syscall(clocks[c]);
            backwards += a > b || b > d;
        }
        say(arg, "clock %d backwards %d", clocks[c], backwards);
    }
    return NULL;
}

int main(void)
{
    check("main");
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, check, "thread") == 0);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        check("child");
        _exit(0);
    }
    wait_and_say("child", child);

    struct timeval day;
    int64_t begin = by_vdso(CLOCK_REALTIME), coarse = by_vdso(CLOCK_REALTIME_COARSE);
    time_t seconds = time(NULL);
    NEED(gettimeofday(&day, NULL) == 0);
    int64_t end = by_vdso(CLOCK_REALTIME), at = day.tv_sec * 1000000LL + day.tv_usec;
    say("time() agrees", "%s", yes(coarse / 1000000000 <= seconds && seconds <= end / 1000000000));
    say("gettimeofday agrees", "%s", yes(begin / 1000 <= at && at <= end / 1000));
    struct timespec resolution;
    NEED(clock_getres(CLOCK_MONOTONIC, &resolution) == 0);
    say("resolution", "%ld", resolution.tv_nsec);
    say("bad clock", "%s", outcome(clock_gettime(1234, &resolution)));
    int64_t before = by_vdso(CLOCK_MONOTONIC);
    pass_ms(30);
    say("slept at least", "%s", yes(by_vdso(CLOCK_MONOTONIC) - before >= 30000000));
    before = by_vdso(CLOCK_THREAD_CPUTIME_ID);
    for (volatile int i = 0; i < 30000000; i++)
        continue;
    say("computing takes CPU time", "%s", yes(by_vdso(CLOCK_THREAD_CPUTIME_ID) - before > 1000000));
    uint64_t stamp = __builtin_ia32_rdtsc();
    say("time stamp counter advances", "%s", yes(__builtin_ia32_rdtsc() > stamp));
    return 0;
}
