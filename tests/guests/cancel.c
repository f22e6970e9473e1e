// Proves that pthread_cancel ends threads blocked in system calls, in condition waits and in
// compute loops (asynchronously), running their cleanup handlers, and that pthread_exit unwinds.
#include "guest.h"

#include <pthread.h>

static int pipes[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile int ready, asked; // asked: pthread_cancel has been called

static void cleanup(void *arg)
{
    say("  cleaned up", "%s", (char *)arg);
}

static void *reader(void *arg)
{
    char byte;
    pthread_cleanup_push(cleanup, "reader");
    ready = 1;
    (void)!read(pipes[0], &byte, 1);
    pthread_cleanup_pop(0);
    return arg;
}

static void *sleeper(void *arg)
{
    pthread_cleanup_push(cleanup, "sleeper");
    ready = 1;
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return arg;
}

static void unlock(void *arg)
{
    pthread_mutex_unlock(arg);
    cleanup("waiter");
}

static void *waiter(void *arg)
{
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(unlock, &mutex);
    ready = 1;
    for (;;)
        pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(0);
    return arg;
}

static void *computer(void *arg)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(cleanup, "computer");
    ready = 1;
    for (volatile uint64_t i = 0;; i++)
        continue;
    pthread_cleanup_pop(0);
    return arg;
}

static void *disabled(void *arg)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    ready = 1;
    while (!asked)
        pass_ms(1);
    pass_ms(5);
    say("  not cancelled", "yet");
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    say("  not cancelled", "at all");
    return arg;
}

static void *leaver(void *arg)
{
    pthread_cleanup_push(cleanup, "leaver");
    ready = 1;
    pthread_exit((void *)5);
    pthread_cleanup_pop(0);
    return arg;
}

int main(void)
{
    static const struct {
        const char *name;
        void *(*start)(void *);
    } kinds[] = {{"reader", reader},     {"sleeper", sleeper},   {"waiter", waiter},
                 {"computer", computer}, {"disabled", disabled}, {"leaver", leaver}};
    NEED(pipe(pipes) == 0);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT(kinds); i++) {
            pthread_t thread;
            void *result;
            ready = asked = 0;
            NEED(pthread_create(&thread, NULL, kinds[i].start, NULL) == 0);
            while (!ready)
                sched_yield();
            if (round)
                pass_ms(5); // it is blocked by now, or not: both must work
            if (kinds[i].start != leaver)
                NEED(pthread_cancel(thread) == 0);
            asked = 1;
            NEED(pthread_join(thread, &result) == 0);
            say(kinds[i].name, "%s",
                result == PTHREAD_CANCELED ? "cancelled"
                : result == (void *)5      ? "5"
                                           : "returned");
        }
    }
    return 0;
}
