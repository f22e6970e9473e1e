// Proves that a program hit by timers all the time computes what it computes undisturbed: general
// registers, floating point, flags and string instructions; for each kind of timer.
#include "guest.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>

static volatile sig_atomic_t hits;
static pid_t expected_thread;
static volatile sig_atomic_t wrong_thread;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    hits++;
    wrong_thread += expected_thread && gettid() != expected_thread;
    volatile double x = hits;
    x = x * 1.5 / 3.7;
    __asm__ volatile("std; cld; xor %%eax, %%eax" : : : "rax", "cc");
}

static uint64_t integers(void)
{
    uint64_t a = 1, b = 2, c = 3, d = 5;
    for (int i = 0; i < 20000; i++) {
        a = a * 6364136223846793005u + b;
        b ^= a >> 7 | c << 9;
        c += d * (a > b ? 3 : 5);
        d = (d << 13 | d >> 51) ^ c;
    }
    return a ^ b ^ c ^ d;
}

static double floats(void)
{
    double x = 0.5, y = 0.25;
    long double z = 1;
    for (int i = 1; i < 20000; i++) {
        x = x * 3.9 * (1 - x);
        y += x / i;
        z = z * 0.999L + (long double)y / 7;
    }
    return x + y + (double)z;
}

static long strings(void)
{
    static char from[30000], to[30000];
    memset(from, 0x5a, sizeof(from));
    void *dst = to, *src = from;
    uint64_t count = sizeof(to);
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(count) : : "memory");
    return memcmp(from, to, sizeof(to)) == 0 && count == 0;
}

static void compute(const char *name, int enough)
{
    uint64_t right = integers();
    double right_float = floats();
    long wrong = 0;
    hits = 0;
    while (hits < enough) {
        wrong += integers() != right;
        wrong += floats() != right_float;
        wrong += !strings();
    }
    say(name, "wrong results %ld", wrong);
}

static void kernel_timer(const char *name, clockid_t clock, struct sigevent *event)
{
    timer_t timer;
    struct itimerspec time = {{0, 1000000}, {0, 1000000}}, none = {0};
    NEED(timer_create(clock, event, &timer) == 0);
    NEED(timer_settime(timer, 0, &time, NULL) == 0);
    compute(name, 30);
    NEED(timer_settime(timer, 0, &none, NULL) == 0);
    NEED(timer_delete(timer) == 0);
}

static void *in_thread(void *arg)
{
    expected_thread = gettid();
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = expected_thread;
    kernel_timer("timer to one thread", CLOCK_MONOTONIC, &event);
    say("went to another thread", "%d", wrong_thread);
    expected_thread = 0;
    return arg;
}

static void notified(union sigval value)
{
    hits += value.sival_int;
}

int main(void)
{
    handle(SIGALRM, handler, SA_RESTART);
    handle(SIGVTALRM, handler, SA_RESTART);
    handle(SIGPROF, handler, SA_RESTART);
    handle(SIGUSR1, handler, SA_RESTART);
    static const int which[] = {ITIMER_REAL, ITIMER_PROF};
    static const char *const names[] = {"ITIMER_REAL", "ITIMER_PROF"};
    for (unsigned i = 0; i < COUNT(which); i++) {
        struct itimerval timer = {{0, 1000}, {0, 1000}}, none = {0};
        NEED(setitimer(which[i], &timer, NULL) == 0);
        compute(names[i], 30);
        NEED(setitimer(which[i], &none, NULL) == 0);
    }
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    kernel_timer("timer_create", CLOCK_REALTIME, &event);
    kernel_timer("timer of CPU time", CLOCK_PROCESS_CPUTIME_ID, &event);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    pthread_join(thread, NULL);
    struct sigevent call = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notified};
    call.sigev_value.sival_int = 1;
    kernel_timer("timer calling a function", CLOCK_MONOTONIC, &call);

    // ITIMER_VIRTUAL counts user time; what a virtual CPU spends may be accounted elsewhere, so
    // only that it is armed and read back is compared.
    struct itimerval timer = {{1000, 0}, {1000, 0}}, read_back;
    NEED(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0);
    NEED(getitimer(ITIMER_VIRTUAL, &read_back) == 0);
    say("ITIMER_VIRTUAL", "%s", yes(read_back.it_value.tv_sec >= 990));
    return 0;
}
