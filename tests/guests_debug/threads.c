// Threads that begin, wait and end while they are debugged: one computes, one sleeps in a read, one
// waits on a condition; then a hundred short ones.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "../guests/thread_state.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int go_on, waits, fds[2];
static volatile pid_t reads;
volatile int stop;
volatile unsigned long turns;

static void *compute(void *unused)
{
    (void)unused;
    pthread_setname_np(pthread_self(), "compute");
    while (!stop)
        turns++;
    return NULL;
}

static void *reader(void *unused)
{
    char byte = 0;
    (void)unused;
    pthread_setname_np(pthread_self(), "reader");
    reads = gettid();
    ssize_t n = read(fds[0], &byte, 1);
    printf("read %zd %c\n", n, byte);
    return NULL;
}

static void *waiter(void *unused)
{
    (void)unused;
    pthread_setname_np(pthread_self(), "waiter");
    pthread_mutex_lock(&mutex);
    waits = 1;
    while (!go_on)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

int ended;

__attribute__((noinline)) void short_thread(void)
{
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
}

static void *begin_short(void *unused)
{
    (void)unused;
    short_thread();
    return NULL;
}

__attribute__((noinline)) void all_there(void)
{
    __asm__ volatile("");
}

int main(void)
{
    void *(*const bodies[])(void *) = {compute, reader, waiter};
    pthread_t threads[3], other[4];
    if (pipe(fds))
        return 1;
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, bodies[i], NULL);
    for (int all = 0; !all; usleep(20000)) {
        pthread_mutex_lock(&mutex);
        all = waits && turns && reads && thread_state(reads) == 'S';
        pthread_mutex_unlock(&mutex);
    }
    all_there();
    for (int i = 0; i < 25; i++) {
        for (int k = 0; k < 4; k++)
            pthread_create(&other[k], NULL, begin_short, NULL);
        for (int k = 0; k < 4; k++)
            pthread_join(other[k], NULL);
    }
    stop = 1;
    pthread_mutex_lock(&mutex);
    go_on = 1;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&mutex);
    if (write(fds[1], "x", 1) != 1)
        return 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("ended %d\n", ended);
    return 0;
}
