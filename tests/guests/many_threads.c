// Proves that running out of threads is an error that pthread_create returns, not a crash, and
// that the threads there are go on, and that there is room again when they have ended. Argument:
// how many to ask for (default 100). Says how many it got, so it is not compared with native.
#include "guest.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static bool go;
static long done;

static void *wait_for_it(void *arg)
{
    pthread_mutex_lock(&mutex);
    while (!go)
        pthread_cond_wait(&condition, &mutex);
    done++;
    pthread_mutex_unlock(&mutex);
    return arg;
}

int main(int argc, char **argv)
{
    static pthread_t threads[5000];
    long asked = argc > 1 ? atol(argv[1]) : 100;
    NEED(asked <= (long)COUNT(threads));
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    NEED(pthread_attr_setstacksize(&attr, 32768) == 0);
    for (int round = 0; round < 2; round++) {
        long got = 0;
        int error = 0;
        go = false;
        done = 0;
        while (got < asked &&
               (error = pthread_create(&threads[got], &attr, wait_for_it, NULL)) == 0)
            got++;
        say("got", "%ld", got);
        say("error", "%s", error ? error_name(error) : "none");
        pthread_mutex_lock(&mutex);
        go = true;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
        for (long i = 0; i < got; i++)
            NEED(pthread_join(threads[i], NULL) == 0);
        say("all went on", "%s", yes(done == got));
    }
    return 0;
}
