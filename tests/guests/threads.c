// Proves that threads can be created and ended any number of times: 200 one by one, 64 at once,
// detached ones, each with its own thread-local storage, specific data and stack.
#include "guest.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

static __thread int local = 7;
static __thread char big_local[10000];
static pthread_key_t key;
static int destroyed;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t done;
static int waiting, released;
static long counter;

static void destroy(void *value)
{
    __atomic_add_fetch(&destroyed, (int)(long)value, __ATOMIC_SEQ_CST);
}

static void *one(void *arg)
{
    local += (int)(long)arg;
    big_local[local % 10000]++;
    pthread_setspecific(key, (void *)1);
    return (void *)(long)local;
}

static void *many(void *arg)
{
    NEED(gettid() != getpid());
    local = (int)(long)arg;
    pthread_barrier_wait(&barrier); // all alive now
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
        if (i % 10 == 0)
            sched_yield();
    }
    pthread_mutex_lock(&mutex);
    if (++waiting == 64)
        pthread_cond_broadcast(&condition);
    while (waiting < 64)
        pthread_cond_wait(&condition, &mutex);
    released++;
    pthread_mutex_unlock(&mutex);
    return (void *)(long)local;
}

static void *detached(void *arg)
{
    (void)arg;
    pthread_detach(pthread_self());
    sem_post(&done);
    return NULL;
}

int main(void)
{
    pthread_key_create(&key, destroy);
    long sum = 0;
    for (long i = 0; i < 200; i++) {
        pthread_t thread;
        void *result;
        NEED(pthread_create(&thread, NULL, one, (void *)i) == 0);
        NEED(pthread_join(thread, &result) == 0);
        sum += (long)result;
    }
    say("one by one", "%ld, destructors %d, own local %d", sum, destroyed, local);

    pthread_t threads[64];
    pthread_barrier_init(&barrier, NULL, 65);
    for (long i = 0; i < 64; i++)
        NEED(pthread_create(&threads[i], NULL, many, (void *)i) == 0);
    pthread_barrier_wait(&barrier);
    sum = 0;
    for (int i = 0; i < 64; i++) {
        void *result;
        NEED(pthread_join(threads[i], &result) == 0);
        sum += (long)result;
    }
    say("at once", "%ld, counted %ld, released %d", sum, counter, released);

    sem_init(&done, 0, 0);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, detached, NULL) == 0);
        while (sem_wait(&done) == -1)
            continue;
    }
    say("detached", "%d", 100);

    pthread_attr_t attr;
    void *stack;
    size_t size;
    NEED(pthread_getattr_np(pthread_self(), &attr) == 0);
    NEED(pthread_attr_getstack(&attr, &stack, &size) == 0);
    char here;
    say("main's stack holds its frames", "%s",
        yes(&here >= (char *)stack && &here < (char *)stack + size));
    say("main is its process", "%s", yes(gettid() == getpid()));
    return 0;
}
