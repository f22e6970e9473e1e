// Threads that wait for each other in all ways that futex(2) has, with what must hold: whoever is
// woken was counted by who woke it, nobody is forgotten, and what Linux refuses stays refused.
// waits SEED [one]     one: on one CPU
// waits nobody         wakes that find nobody, and waits that are over
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);      \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

enum { THREADS = 6, ROUNDS = 400, WATCH_SECONDS = 300 };

static unsigned seed;

static long futex(void *word, int op, uint32_t value, const void *time, void *other, uint32_t bits)
{
    return syscall(SYS_futex, word, op, value, time, other, bits);
}

static long wait_for(uint32_t *word, uint32_t value)
{
    return futex(word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static long wake(uint32_t *word, int count)
{
    return futex(word, FUTEX_WAKE_PRIVATE, (uint32_t)count, NULL, NULL, 0);
}

// Nothing, a moment, or longer than anybody looks.
static void pause_a_little(unsigned *state)
{
    unsigned kind = (unsigned)rand_r(state) % 8;
    if (kind < 4)
        for (volatile unsigned i = 0; i < kind * 300; i++)
            ;
    else if (kind == 7)
        usleep((unsigned)rand_r(state) % 300);
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    REQUIRE(pthread_create(thread, NULL, run, argument) == 0);
}

static void join_all(pthread_t *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
}

// ---- Counts: as many waits end by a wake as wakes have said ------------------------------------

static struct {
    uint32_t word, ended;
    unsigned long woken, said;
    uint32_t bits; // of the waiters, or 0
} counts;

static void *count_waits(void *argument)
{
    (void)argument;
    int op = counts.bits ? FUTEX_WAIT_BITSET_PRIVATE : FUTEX_WAIT_PRIVATE;
    for (;;) {
        // First the word, which changes after `ended`: nobody waits for what has happened.
        uint32_t now = __atomic_load_n(&counts.word, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&counts.ended, __ATOMIC_SEQ_CST))
            return NULL;
        if (futex(&counts.word, op, now, NULL, NULL, counts.bits) == 0)
            __atomic_add_fetch(&counts.woken, 1, __ATOMIC_SEQ_CST);
        else
            REQUIRE(errno == EAGAIN);
    }
}

static void *count_wakes(void *argument)
{
    unsigned state = seed + (unsigned)(uintptr_t)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (rand_r(&state) % 4)
            __atomic_add_fetch(&counts.word, 1, __ATOMIC_SEQ_CST);
        int most = 1 + rand_r(&state) % THREADS;
        long said = wake(&counts.word, most);
        REQUIRE(said >= 0 && said <= most);
        __atomic_add_fetch(&counts.said, (unsigned long)said, __ATOMIC_SEQ_CST);
        pause_a_little(&state);
    }
    return NULL;
}

static void test_counts(uint32_t bits)
{
    pthread_t waiter[THREADS], waker[2];
    memset(&counts, 0, sizeof(counts));
    counts.bits = bits;
    for (unsigned i = 0; i < THREADS; i++)
        start(&waiter[i], count_waits, NULL);
    for (uintptr_t i = 0; i < 2; i++)
        start(&waker[i], count_wakes, (void *)(i + 1));
    join_all(waker, 2);
    counts.ended = 1;
    __atomic_add_fetch(&counts.word, 1, __ATOMIC_SEQ_CST);
    counts.said += (unsigned long)wake(&counts.word, INT32_MAX);
    join_all(waiter, THREADS);
    REQUIRE(counts.said == counts.woken);
}

// ---- Turns: one word, one thread at a time; a lost wake-up stops all ----------------------------

static uint32_t turn;

static void *take_turns(void *argument)
{
    uint32_t me = (uint32_t)(uintptr_t)argument;
    unsigned state = seed + me;
    for (unsigned i = 0; i < ROUNDS; i++) {
        for (uint32_t now; (now = __atomic_load_n(&turn, __ATOMIC_SEQ_CST)) % THREADS != me;)
            wait_for(&turn, now);
        pause_a_little(&state);
        __atomic_add_fetch(&turn, 1, __ATOMIC_SEQ_CST);
        wake(&turn, INT32_MAX);
    }
    return NULL;
}

static void test_turns(void)
{
    pthread_t thread[THREADS];
    turn = 0;
    for (uintptr_t i = 0; i < THREADS; i++)
        start(&thread[i], take_turns, (void *)i);
    join_all(thread, THREADS);
    REQUIRE(turn == THREADS * ROUNDS);
}

// ---- One wake for one event: nobody else may have it -------------------------------------------

static struct {
    uint32_t events, done, ended;
} events;

// Takes an event, or waits for one with a wake that only it can get.
static void *take_events(void *argument)
{
    (void)argument;
    for (;;) {
        uint32_t now = __atomic_load_n(&events.events, __ATOMIC_SEQ_CST);
        if (now && __atomic_compare_exchange_n(&events.events, &now, now - 1, false,
                                               __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            __atomic_add_fetch(&events.done, 1, __ATOMIC_SEQ_CST);
            wake(&events.done, 1);
            if (__atomic_load_n(&events.ended, __ATOMIC_SEQ_CST))
                return NULL;
        } else if (!now && __atomic_load_n(&events.ended, __ATOMIC_SEQ_CST)) {
            return NULL;
        } else if (!now) {
            wait_for(&events.events, 0);
        }
    }
}

static void test_events(void)
{
    pthread_t thread[THREADS];
    unsigned state = seed;
    memset(&events, 0, sizeof(events));
    for (unsigned i = 0; i < THREADS; i++)
        start(&thread[i], take_events, NULL);
    for (uint32_t given = 0; given < ROUNDS;) {
        uint32_t some = 1 + (uint32_t)rand_r(&state) % 3;
        __atomic_add_fetch(&events.events, some, __ATOMIC_SEQ_CST);
        for (uint32_t i = 0; i < some; i++)
            wake(&events.events, 1);
        given += some;
        pause_a_little(&state);
        for (uint32_t now; (now = __atomic_load_n(&events.done, __ATOMIC_SEQ_CST)) < given;)
            wait_for(&events.done, now);
    }
    events.ended = 1;
    // Who has read `ended` before, and is about to wait: there is an event for each, who takes one
    // and goes.
    __atomic_add_fetch(&events.events, THREADS, __ATOMIC_SEQ_CST);
    wake(&events.events, INT32_MAX);
    join_all(thread, THREADS);
}

// ---- Waiters of other kinds -------------------------------------------------------------------

static struct {
    uint32_t from, to;
    uint32_t returned;
    int op;
    uint32_t bits;
} mixed;

static void *wait_once(void *argument)
{
    (void)argument;
    long result = futex(&mixed.from, mixed.op, 0, NULL, NULL, mixed.bits);
    REQUIRE(result == 0);
    __atomic_add_fetch(&mixed.returned, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void start_waiters(pthread_t *thread, int op, uint32_t bits)
{
    memset(&mixed, 0, sizeof(mixed));
    mixed.op = op;
    mixed.bits = bits;
    for (unsigned i = 0; i < THREADS; i++)
        start(&thread[i], wait_once, NULL);
}

static void wake_until(uint32_t *word, int op, uint32_t bits, long all)
{
    for (long woken = 0; woken < all;) {
        long more = futex(word, op, 1, NULL, NULL, bits);
        REQUIRE(more >= 0 && more <= 1);
        woken += more;
        if (!more)
            sched_yield();
    }
}

static void test_kinds(void)
{
    static const struct {
        int wait;
        uint32_t bits;
        int wake;
        uint32_t wake_bits;
    } kinds[] = {
        {FUTEX_WAIT_PRIVATE, 0, FUTEX_WAKE_BITSET_PRIVATE, FUTEX_BITSET_MATCH_ANY},
        {FUTEX_WAIT_PRIVATE, 0, FUTEX_WAKE_BITSET_PRIVATE, 4},
        {FUTEX_WAIT_BITSET_PRIVATE, 2, FUTEX_WAKE_PRIVATE, 0},
        {FUTEX_WAIT_BITSET_PRIVATE, 2, FUTEX_WAKE_BITSET_PRIVATE, 2},
        {FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, ~0U, FUTEX_WAKE_PRIVATE, 0},
        {FUTEX_WAIT, 0, FUTEX_WAKE, 0},
    };
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        pthread_t thread[THREADS];
        start_waiters(thread, kinds[i].wait, kinds[i].bits);
        if (mixed.bits == 2)
            REQUIRE(futex(&mixed.from, FUTEX_WAKE_BITSET_PRIVATE, 99, NULL, NULL, 1) == 0);
        if (mixed.op == FUTEX_WAIT) // another word altogether
            REQUIRE(wake(&mixed.from, 99) == 0);
        wake_until(&mixed.from, kinds[i].wake, kinds[i].wake_bits, THREADS);
        join_all(thread, THREADS);
        REQUIRE(mixed.returned == THREADS && wake(&mixed.from, 99) == 0);
    }
}

static void test_requeue(void)
{
    pthread_t thread[THREADS];
    start_waiters(thread, FUTEX_WAIT_PRIVATE, 0);
    errno = 0;
    REQUIRE(futex(&mixed.from, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)9, &mixed.to, 1) == -1 &&
            errno == EAGAIN);
    for (long moved = 0; moved < THREADS;) {
        long more = futex(&mixed.from, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)9, &mixed.to, 0);
        REQUIRE(more >= 0);
        moved += more;
        if (!more)
            sched_yield();
    }
    REQUIRE(wake(&mixed.from, 99) == 0);
    REQUIRE(wake(&mixed.to, 2) == 2);
    REQUIRE(wake(&mixed.to, 99) == THREADS - 2);
    join_all(thread, THREADS);
}

static void test_wake_op(void)
{
    pthread_t thread[THREADS];
    start_waiters(thread, FUTEX_WAIT_PRIVATE, 0);
    int op = FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 12345);
    for (long woken = 0; woken < THREADS;) {
        long more =
            futex(&mixed.from, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &mixed.to, (uint32_t)op);
        REQUIRE(more >= 0);
        woken += more;
    }
    REQUIRE(mixed.to >= THREADS);
    join_all(thread, THREADS);
}

// Several words at once, which only Linux knows.
static void *wait_for_several(void *argument)
{
    enum { NR_FUTEX_WAITV = 449, FUTEX_U32 = 2 };
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } words[2] = {{0, (uint64_t)&mixed.from, FUTEX_U32 | FUTEX_PRIVATE_FLAG, 0},
                  {0, (uint64_t)&mixed.to, FUTEX_U32 | FUTEX_PRIVATE_FLAG, 0}};
    long *result = argument;
    *result = syscall(NR_FUTEX_WAITV, words, 2, 0, NULL, 0);
    if (*result < 0)
        *result = -errno;
    __atomic_store_n(&mixed.returned, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void test_several(void)
{
    pthread_t thread;
    long result = 0;
    memset(&mixed, 0, sizeof(mixed));
    start(&thread, wait_for_several, &result);
    long woken = 0;
    while (!__atomic_load_n(&mixed.returned, __ATOMIC_SEQ_CST)) {
        woken += wake(&mixed.to, 1);
        sched_yield();
    }
    join_all(&thread, 1);
    REQUIRE(result == -ENOSYS || (result == 1 && woken == 1));
}

// ---- Errors and timeouts ------------------------------------------------------------------------

static void refuses(int error, void *word, int op, uint32_t value, const void *time, uint32_t bits)
{
    errno = 0;
    long result = futex(word, op, value, time, NULL, bits);
    REQUIRE(result == -1 && errno == error);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void times_out(clockid_t clock, bool absolute, int64_t ns)
{
    uint32_t word = 0;
    int64_t begin = now_ns(clock), until = absolute ? begin + ns : ns;
    struct timespec time = {until / 1000000000, until % 1000000000};
    int op = absolute ? FUTEX_WAIT_BITSET_PRIVATE : FUTEX_WAIT_PRIVATE;
    if (clock == CLOCK_REALTIME && absolute)
        op |= FUTEX_CLOCK_REALTIME;
    refuses(ETIMEDOUT, &word, op, 0, &time, ~0U);
    if (clock == CLOCK_MONOTONIC) // the other one can be set meanwhile
        REQUIRE(now_ns(clock) - begin >= ns);
}

static void test_errors(void)
{
    uint32_t word = 7;
    struct timespec bad[] = {{-1, 0}, {0, 1000000000}, {0, -1}}, old = {0, 0};
    void *closed = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *upper = (void *)0xffff800000000000;
    refuses(EAGAIN, &word, FUTEX_WAIT_PRIVATE, 8, NULL, 0);
    refuses(EAGAIN, &word, FUTEX_WAIT_BITSET_PRIVATE, 8, &old, ~0U);
    refuses(EINVAL, &word, FUTEX_WAIT_BITSET_PRIVATE, 7, NULL, 0);
    refuses(EINVAL, &word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, 0);
    refuses(EINVAL, (char *)&word + 1, FUTEX_WAIT_PRIVATE, 7, NULL, 0);
    refuses(EINVAL, (char *)&word + 2, FUTEX_WAKE_PRIVATE, 1, NULL, 0);
    refuses(ENOSYS, &word, 77 | FUTEX_PRIVATE_FLAG, 1, NULL, 0);
    refuses(ENOSYS, &word, FUTEX_WAKE_PRIVATE | FUTEX_CLOCK_REALTIME, 1, NULL, 0);
    for (void **where = (void *[]){NULL, closed, upper, (void *)1}; *where != (void *)1; where++)
        refuses(EFAULT, *where, FUTEX_WAIT_PRIVATE, 0, NULL, 0);
    refuses(EFAULT, upper, FUTEX_WAKE_PRIVATE, 1, NULL, 0);
    refuses(EFAULT, &word, FUTEX_WAIT_PRIVATE, 7, closed, 0);
    REQUIRE(wake(closed, 1) == 0 && wake(NULL, 1) == 0 && wake(&word, 0) == 0);
    for (unsigned i = 0; i < 3; i++) {
        refuses(EINVAL, &word, FUTEX_WAIT_PRIVATE, 7, &bad[i], 0);
        refuses(EINVAL, &word, FUTEX_WAIT_BITSET_PRIVATE, 8, &bad[i], ~0U);
    }
    refuses(ETIMEDOUT, &word, FUTEX_WAIT_PRIVATE, 7, &old, 0);
    refuses(ETIMEDOUT, &word, FUTEX_WAIT_BITSET_PRIVATE, 7, &old, ~0U);
    static const int64_t times[] = {1000, 20000, 150000, 3000000};
    for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        times_out(CLOCK_MONOTONIC, false, times[i]);
        times_out(CLOCK_MONOTONIC, true, times[i]);
        times_out(CLOCK_REALTIME, true, times[i]);
    }
    munmap(closed, 4096);
    refuses(EFAULT, closed, FUTEX_WAIT_PRIVATE, 0, NULL, 0);
}

// ---- Signals ------------------------------------------------------------------------------------

static struct {
    uint32_t word, other, ended;
    volatile sig_atomic_t handled;
    long tid;
} signals;

static void handle(int sig)
{
    (void)sig;
    signals.handled++;
    wake(&signals.other, 1); // another call before the interrupted one goes on
}

static void *wait_through_signals(void *argument)
{
    bool restarts = argument;
    __atomic_store_n(&signals.tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    long interrupted = 0;
    while (!__atomic_load_n(&signals.ended, __ATOMIC_SEQ_CST)) {
        long result = wait_for(&signals.word, 0);
        REQUIRE(result == 0 || errno == EAGAIN || (errno == EINTR && !restarts));
        interrupted += result && errno == EINTR;
        if (interrupted == ROUNDS / 10)
            break;
    }
    REQUIRE(restarts || interrupted);
    return NULL;
}

static void test_signals(bool restarts)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = restarts ? SA_RESTART : 0};
    pthread_t thread;
    unsigned state = seed;
    memset(&signals, 0, sizeof(signals));
    REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
    start(&thread, wait_through_signals, (void *)(uintptr_t)restarts);
    while (!__atomic_load_n(&signals.tid, __ATOMIC_SEQ_CST))
        sched_yield();
    for (unsigned i = 0; restarts ? i < ROUNDS / 4 : pthread_tryjoin_np(thread, NULL) != 0; i++) {
        syscall(SYS_tgkill, getpid(), signals.tid, SIGUSR1);
        pause_a_little(&state);
    }
    if (!restarts)
        return;
    __atomic_store_n(&signals.ended, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&signals.word, 1, __ATOMIC_SEQ_CST);
    wake(&signals.word, 1);
    join_all(&thread, 1);
}

// ---- What a C library makes of it ---------------------------------------------------------------

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t filled, emptied;
    pthread_rwlock_t lock;
    pthread_barrier_t barrier;
    sem_t semaphore;
    unsigned queued, taken, added, written, inside;
} library;

static void *use_library(void *argument)
{
    unsigned me = (unsigned)(uintptr_t)argument, state = seed * 77 + me;
    bool first = me % 2;
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&library.mutex);
        while (first ? library.queued == 3 : library.queued == 0) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += 1000;
            pthread_cond_t *cond = first ? &library.emptied : &library.filled;
            REQUIRE((i % 2 ? pthread_cond_wait(cond, &library.mutex)
                           : pthread_cond_timedwait(cond, &library.mutex, &until)) == 0);
        }
        if (first)
            library.queued++, library.added++, pthread_cond_signal(&library.filled);
        else
            library.queued--, library.taken++, pthread_cond_broadcast(&library.emptied);
        pthread_mutex_unlock(&library.mutex);
        sem_wait(&library.semaphore);
        REQUIRE(__atomic_add_fetch(&library.inside, 1, __ATOMIC_SEQ_CST) <= 2);
        pause_a_little(&state);
        __atomic_sub_fetch(&library.inside, 1, __ATOMIC_SEQ_CST);
        sem_post(&library.semaphore);
        if (i % 8 == 0) {
            pthread_rwlock_wrlock(&library.lock);
            library.written++;
            pthread_rwlock_unlock(&library.lock);
        } else {
            pthread_rwlock_rdlock(&library.lock);
            unsigned before = *(volatile unsigned *)&library.written;
            pause_a_little(&state);
            REQUIRE(before == *(volatile unsigned *)&library.written);
            pthread_rwlock_unlock(&library.lock);
        }
        if (i % 16 == 0)
            pthread_barrier_wait(&library.barrier);
    }
    return NULL;
}

static void test_library(void)
{
    pthread_t thread[THREADS];
    memset(&library, 0, sizeof(library));
    pthread_mutex_init(&library.mutex, NULL);
    pthread_cond_init(&library.filled, NULL);
    pthread_cond_init(&library.emptied, NULL);
    pthread_rwlock_init(&library.lock, NULL);
    pthread_barrier_init(&library.barrier, NULL, THREADS);
    sem_init(&library.semaphore, 0, 2);
    for (uintptr_t i = 0; i < THREADS; i++)
        start(&thread[i], use_library, (void *)i);
    join_all(thread, THREADS);
    REQUIRE(library.added == library.taken && !library.queued);
    REQUIRE(library.written == THREADS * (ROUNDS / 8));
}

// ---- Children and threads that end --------------------------------------------------------------

static void test_fork(void)
{
    pthread_t thread[THREADS];
    start_waiters(thread, FUTEX_WAIT_PRIVATE, 0);
    for (unsigned i = 0; i < 4; i++) {
        usleep(i * 200);
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (!pid) {
            REQUIRE(wake(&mixed.from, 99) == 0); // the parent's threads are not here
            test_turns();
            test_counts(0);
            _exit(0);
        }
        int status;
        REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    }
    wake_until(&mixed.from, FUTEX_WAKE_PRIVATE, 0, THREADS);
    join_all(thread, THREADS);
}

static void *end_soon(void *argument)
{
    struct timespec time = {.tv_nsec = 200000};
    REQUIRE(futex(argument, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0) == -1 && errno == ETIMEDOUT);
    return NULL;
}

static void test_ends(void)
{
    uint32_t word = 0;
    for (unsigned i = 0; i < ROUNDS / 20; i++) {
        pthread_t thread[2];
        for (unsigned j = 0; j < 2; j++)
            start(&thread[j], end_soon, &word);
        join_all(thread, 2);
        REQUIRE(wake(&word, 99) == 0);
    }
}

static void meet_nobody(void)
{
    uint32_t word = 0;
    for (unsigned i = 0; i < 1000; i++) {
        REQUIRE(wake(&word, 1) == 0);
        refuses(EAGAIN, &word, FUTEX_WAIT_PRIVATE, 1, NULL, 0);
    }
}

static void stay_on_one_cpu(void)
{
    cpu_set_t cpus;
    REQUIRE(sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
    unsigned first = 0;
    while (!CPU_ISSET(first, &cpus))
        first++;
    CPU_ZERO(&cpus);
    CPU_SET(first, &cpus);
    REQUIRE(sched_setaffinity(0, sizeof(cpus), &cpus) == 0);
}

int main(int argc, char **argv)
{
    REQUIRE(argc >= 2);
    if (strcmp(argv[1], "nobody") == 0) {
        meet_nobody();
        return 0;
    }
    seed = (unsigned)atoi(argv[1]);
    if (argc > 2)
        stay_on_one_cpu();
    alarm(WATCH_SECONDS);
    test_errors();
    test_counts(0);
    test_counts(FUTEX_BITSET_MATCH_ANY);
    test_counts(3);
    test_turns();
    test_events();
    test_kinds();
    test_signals(false);
    test_signals(true);
    test_library();
    test_ends();
    test_fork();
    test_wake_op();
    test_requeue();
    test_turns();
    test_several();
    test_counts(0);
    test_turns();
    puts("right");
    return 0;
}
