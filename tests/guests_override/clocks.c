// Clocks by system calls, between two looks at them that are not overridden.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
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
    int coarse = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ||
                 clock == CLOCK_PROCESS_CPUTIME_ID; // waits for Linux's where it was ahead
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

static long processor_time(void)
{
    struct timespec now;
    check("processor time", clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
    return ns(&now);
}

static long used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void *clock_of_thread(void *seen)
{
    for (int i = 0; i < 2000; i++) { // it never goes back, whichever thread looks at it
        long last = __atomic_load_n((long *)seen, __ATOMIC_SEQ_CST), now = processor_time();
        check("between threads", now >= last);
        while (last < now && !__atomic_compare_exchange_n((long *)seen, &last, now, 0,
                                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
    }
    return NULL;
}

// What has been used passes, a sleep does not, and a child begins anew. Near: a tick of what is
// between two answers of Linux, and one of what Linux itself knows of a thread that is running.
static void processor_times(void)
{
    enum { MS = 1000000, NEAR = 30 * MS, SLEEP = 200 * MS };
    long begin = used(), seen = 0;
    int status = -1;
    pthread_t threads[2];
    while (processor_time() < begin + 50 * MS)
        ;
    check("not ahead", processor_time() <= used() + NEAR);
    check("not behind", used() <= processor_time() + NEAR);
    long before = processor_time();
    struct timespec sleep = {.tv_nsec = SLEEP};
    nanosleep(&sleep, NULL);
    check("asleep", processor_time() - before < SLEEP / 2);
    before = processor_time();
    if (fork() == 0)
        _exit(processor_time() >= before);
    check("child", wait(&status) > 0 && status == 0);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, clock_of_thread, &seen);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void bad_ones(void)
{
    struct timespec now;
    check("bad clock", syscall(SYS_clock_gettime, 99, &now) == -1 && errno == EINVAL);
    check("bad place", syscall(SYS_clock_gettime, 1, 8) == -1 && errno == EFAULT);
    check("bad place",
          syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, 8) == -1 && errno == EFAULT);
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
    processor_times();
    bad_ones();
    // Without the vDSO the calls are still there.
    check("munmap", munmap((void *)getauxval(AT_SYSINFO_EHDR), 8192) == 0);
    check("without", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0 && ns(&now) > 0);
    printf("%s\n", wrong ? "wrong" : "right");
    return wrong;
}
