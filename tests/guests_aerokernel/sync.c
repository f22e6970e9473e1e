// Locks, events, conditions and barriers, on one virtual CPU and between two.
#include "check.h"

enum { ROUNDS = 2000 };

static struct ak_event ping, pong;
static struct ak_mutex mutex;
static struct ak_cond filled, emptied;
static struct ak_barrier barrier;
static struct ak_spin spin;
static unsigned shared, value;

static void *answer(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        ak_event_wait(&ping);
        shared++;
        ak_event_signal(&pong);
    }
    return arg;
}

static void events_with(const struct ak_thread_options *options)
{
    struct ak_thread *thread;
    shared = 0;
    CHECK(ak_thread_create(&thread, answer, NULL, options) == 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        ak_event_signal(&ping);
        ak_event_wait(&pong);
        CHECK(shared == i);
    }
    ak_thread_join(thread);
}

static void *add(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        ak_mutex_lock(&mutex);
        unsigned seen = value;
        if (i % 16 == 0)
            ak_yield(); // with the mutex held
        value = seen + 1;
        ak_mutex_unlock(&mutex);
        ak_spin_lock(&spin);
        shared++;
        ak_spin_unlock(&spin);
    }
    return arg;
}

static void mutexes_with(const struct ak_thread_options *options)
{
    struct ak_thread *threads[4];
    value = shared = 0;
    for (int i = 0; i < 4; i++)
        CHECK(ak_thread_create(&threads[i], add, NULL, i % 2 ? options : NULL) == 0);
    for (int i = 0; i < 4; i++)
        ak_thread_join(threads[i]);
    CHECK(value == 4 * ROUNDS && shared == 4 * ROUNDS);
    CHECK(ak_mutex_try(&mutex) && !ak_mutex_try(&mutex));
    ak_mutex_unlock(&mutex);
    CHECK(ak_spin_try(&spin) && !ak_spin_try(&spin));
    ak_spin_unlock(&spin);
}

static void *produce(void *arg)
{
    for (unsigned i = 1; i <= ROUNDS; i++) {
        ak_mutex_lock(&mutex);
        while (value)
            ak_cond_wait(&emptied, &mutex);
        value = i;
        ak_cond_signal(&filled);
        ak_mutex_unlock(&mutex);
    }
    return arg;
}

static void conditions_with(const struct ak_thread_options *options)
{
    struct ak_thread *thread;
    value = 0;
    CHECK(ak_thread_create(&thread, produce, NULL, options) == 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        ak_mutex_lock(&mutex);
        while (!value)
            ak_cond_wait(&filled, &mutex);
        CHECK(value == i);
        value = 0;
        ak_cond_broadcast(&emptied);
        ak_mutex_unlock(&mutex);
    }
    ak_thread_join(thread);
}

static void *meet(void *arg)
{
    size_t last = 0;
    for (unsigned i = 1; i <= 100; i++) {
        __atomic_add_fetch(&shared, 1, __ATOMIC_RELAXED);
        last += ak_barrier_wait(&barrier);
        CHECK(__atomic_load_n(&shared, __ATOMIC_RELAXED) >= 5 * i);
        ak_barrier_wait(&barrier);
    }
    (void)arg;
    return (void *)last;
}

static void barriers_with(const struct ak_thread_options *options)
{
    struct ak_thread *threads[5];
    size_t last = 0;
    shared = 0;
    ak_barrier_init(&barrier, 5);
    for (int i = 0; i < 5; i++)
        CHECK(ak_thread_create(&threads[i], meet, NULL, i % 2 ? options : NULL) == 0);
    for (int i = 0; i < 5; i++)
        last += (size_t)ak_thread_join(threads[i]);
    CHECK(shared == 500 && last == 100);
}

static void *wait_for_all(void *arg)
{
    ak_event_wait(arg);
    return NULL;
}

static void broadcast(void)
{
    static struct ak_event event;
    struct ak_thread *threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(ak_thread_create(&threads[i], wait_for_all, &event, NULL) == 0);
    ak_yield();
    ak_event_broadcast(&event);
    for (int i = 0; i < 3; i++)
        ak_thread_join(threads[i]);
    CHECK(!ak_event_wait_until(&event, ak_clock() + 1000000)); // is not kept
    ak_event_signal(&event);
    CHECK(ak_event_wait_until(&event, ak_clock() + 1000000000));
}

static void events(void)
{
    events_with(NULL);
}
static void mutexes(void)
{
    mutexes_with(NULL);
}
static void conditions(void)
{
    conditions_with(NULL);
}
static void barriers(void)
{
    barriers_with(NULL);
}

static struct ak_thread_options there;
static void events_between(void)
{
    events_with(&there);
}
static void mutexes_between(void)
{
    mutexes_with(&there);
}
static void conditions_between(void)
{
    conditions_with(&there);
}
static void barriers_between(void)
{
    barriers_with(&there);
}

static void *serve(void *arg)
{
    CHECK(ak_attach() == 0);
    there.cpu = ak_cpu();
    ak_event_signal(arg);
    serve_until_released();
    return NULL;
}

int main(void)
{
    static struct ak_event serving;
    elsewhere server;
    attach();
    PART(events);
    PART(mutexes);
    PART(conditions);
    PART(barriers);
    PART(broadcast);
    CHECK(begin_elsewhere(&server, serve, &serving) == 0);
    ak_event_wait(&serving);
    PART(events_between);
    PART(mutexes_between);
    PART(conditions_between);
    PART(barriers_between);
    ak_cpu_release(there.cpu);
    end_elsewhere(server);
    return 0;
}
