// Proves that threads, signals, timers, forks and memory changes do not disturb each other: all at
// once, each doing a fixed amount of work, with totals at the end that do not depend on the order.
// Arguments: which of "threads signals forks memory execs" run (default: all), then how many times.
#include "guest.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { TARGETS = 3 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static uint64_t counted, joined, children, mapped, execs;
static uint64_t received[TARGETS], received_sum[TARGETS];
static volatile sig_atomic_t alarms;
static volatile bool stop;
static pthread_t targets[TARGETS];
static pthread_barrier_t ready;
static __thread int target_number = -1;

static void on_alarm(int sig)
{
    (void)sig;
    alarms++;
}

static void on_queued(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (target_number >= 0) {
        received[target_number]++;
        received_sum[target_number] += (uint64_t)info->si_value.sival_int;
    }
}

static void add(uint64_t *where, uint64_t what)
{
    __atomic_add_fetch(where, what, __ATOMIC_SEQ_CST);
}

static void *small(void *arg)
{
    char *block = malloc(1000 + (long)arg);
    memset(block, 1, 1000 + (long)arg);
    pthread_mutex_lock(&mutex);
    counted += (uint64_t)block[999];
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    free(block);
    return arg;
}

static void *threads(void *arg)
{
    for (unsigned i = 0; i < 60; i++) {
        pthread_t batch[5];
        void *result;
        for (long j = 0; j < 5; j++)
            NEED(pthread_create(&batch[j], NULL, small, (void *)j) == 0);
        for (long j = 0; j < 5; j++) {
            NEED(pthread_join(batch[j], &result) == 0 && (long)result == j);
            add(&joined, 1);
        }
    }
    return arg;
}

static void *target(void *arg)
{
    target_number = (int)(long)arg;
    pthread_barrier_wait(&ready);
    volatile double x = 0.1;
    uint64_t wrong = 0;
    while (!stop) {
        double before = x;
        double y = before * 1.25 + 3.5;
        if (target_number == 1)
            pass_ms(1);
        else if (target_number == 2)
            sched_yield();
        wrong += y != before * 1.25 + 3.5;
        x = y > 1e6 ? 0.1 : y;
    }
    NEED(wrong == 0);
    return NULL;
}

static void *signals(void *arg)
{
    for (unsigned i = 0; i < 400; i++) {
        for (int t = 0; t < TARGETS; t++)
            while (pthread_sigqueue(targets[t], SIGRTMIN + 1, (union sigval){.sival_int = t + 1}))
                sched_yield(); // the queue is full
        if (i % 8 == 0)
            pass_ms(1);
    }
    return arg;
}

static void *in_child(void *arg)
{
    return (void *)((long)arg + 1);
}

static void *forks(void *arg)
{
    for (unsigned i = 0; i < 40; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            void *result = NULL;
            char *block = malloc(100000);
            memset(block, 2, 100000);
            if (pthread_create(&thread, NULL, in_child, (void *)40) ||
                pthread_join(thread, &result) || block[99999] != 2)
                _exit(50);
            _exit((int)(long)result); // 41
        }
        NEED(child > 0);
        int status;
        while (waitpid(child, &status, 0) == -1)
            NEED(errno == EINTR);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 41)
            say_status("a child ended with", status);
        add(&children, 1);
    }
    return arg;
}

static void *memory(void *arg)
{
    for (unsigned i = 0; i < 500; i++) {
        size_t size = (1 + i % 9) * 16 * PAGE;
        char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        NEED(area != MAP_FAILED);
        for (size_t at = 0; at < size; at += PAGE)
            area[at] = (char)i;
        NEED(mprotect(area, PAGE, PROT_READ) == 0);
        NEED(area[0] == (char)i && area[size - PAGE] == (char)i);
        NEED(madvise(area + PAGE, PAGE, MADV_DONTNEED) == 0);
        NEED(area[PAGE] == 0);
        NEED(munmap(area, size) == 0);
        add(&mapped, 1);
    }
    return arg;
}

static void *exec_loop(void *arg)
{
    for (unsigned i = 0; i < 20; i++) {
        int status = system("exit 3");
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 3)
            say_status("a shell ended with", status);
        add(&execs, 1);
    }
    return arg;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void *(*start)(void *);
    } kinds[] = {{"threads", threads},
                 {"signals", signals},
                 {"forks", forks},
                 {"memory", memory},
                 {"execs", exec_loop}};
    const char *which = argc > 1 ? argv[1] : "threads signals forks memory execs";
    unsigned times = argc > 2 ? (unsigned)atoi(argv[2]) : 1;

    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    NEED(sigaction(SIGALRM, &action, NULL) == 0);
    handle(SIGRTMIN + 1, on_queued, SA_RESTART);
    pthread_barrier_init(&ready, NULL, TARGETS + 1);
    for (long i = 0; i < TARGETS; i++)
        NEED(pthread_create(&targets[i], NULL, target, (void *)i) == 0);
    pthread_barrier_wait(&ready);
    struct itimerval timer = {{0, 3000}, {0, 3000}}, none = {0};
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);

    // All together each time: to the end it is the same mixture.
    for (unsigned time = 0; time < times; time++) {
        pthread_t running[COUNT(kinds)];
        for (unsigned i = 0; i < COUNT(kinds); i++)
            if (strstr(which, kinds[i].name))
                NEED(pthread_create(&running[i], NULL, kinds[i].start, NULL) == 0);
        for (unsigned i = 0; i < COUNT(kinds); i++)
            if (strstr(which, kinds[i].name))
                NEED(pthread_join(running[i], NULL) == 0);
    }
    while (!alarms)
        pass_ms(1);
    // A thread may end before it takes what is pending for it: let it take everything first.
    uint64_t sent = strstr(which, "signals") ? 400 * times : 0;
    for (int i = 0; i < TARGETS; i++)
        for (int ms = 0; ms < 20000 && __atomic_load_n(&received[i], __ATOMIC_SEQ_CST) < sent; ms++)
            pass_ms(1);
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    stop = true;
    for (int i = 0; i < TARGETS; i++)
        NEED(pthread_join(targets[i], NULL) == 0);

    say("threads", "joined %lu counted %lu", joined, counted);
    for (int i = 0; i < TARGETS; i++)
        say("signals", "target %d received %lu sum %lu", i, received[i], received_sum[i]);
    say("forks", "%lu", children);
    say("memory", "%lu", mapped);
    say("execs", "%lu", execs);
    return 0;
}
