// What the processor itself takes to carry a cache line to another core and back, in cycles: two
// threads, each on a core of its own, answer each other in one word.
//
// usage: pingpong CPU CPU SINGLES BATCHES
#define _GNU_SOURCE
#include "micro.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

// Odd: the other's turn.
static _Alignas(128) atomic_uint turn;

static void stay_on(const char *word)
{
    char *end;
    long cpu = strtol(word, &end, 10);
    cpu_set_t set;

    CPU_ZERO(&set);
    if (*word && !*end && cpu >= 0 && cpu < CPU_SETSIZE)
        CPU_SET((int)cpu, &set);
    int err = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (err) {
        fprintf(stderr, "pingpong: CPU %s: %s\n", word, strerror(err));
        exit(1);
    }
}

struct other {
    const char *cpu;
    long rounds;
};

static void *answer(void *data)
{
    const struct other *other = data;
    unsigned mine = 1;

    stay_on(other->cpu);
    for (long i = 0; i < other->rounds; i++, mine += 2) {
        while (atomic_load_explicit(&turn, memory_order_acquire) != mine)
            ;
        atomic_store_explicit(&turn, mine + 1, memory_order_release);
    }
    return NULL;
}

static void go(void *data)
{
    unsigned *now = data;

    atomic_store_explicit(&turn, *now + 1, memory_order_release);
    *now += 2;
    while (atomic_load_explicit(&turn, memory_order_acquire) != *now)
        ;
}

int main(int argc, char **argv)
{
    struct sampling how;
    struct other other;
    pthread_t thread;
    unsigned now = 0;

    if (argc != 5 || read_sampling(argv + 3, &how)) {
        fputs("usage: pingpong CPU CPU SINGLES BATCHES\n", stderr);
        return 2;
    }
    other = (struct other){argv[2], count_round_trips(&how)};
    stay_on(argv[1]);
    int err = pthread_create(&thread, NULL, answer, &other);
    if (err) {
        fprintf(stderr, "pingpong: pthread_create: %s\n", strerror(err));
        return 1;
    }
    round_trips(&how, go, &now);
    pthread_join(thread, NULL);
    return 0;
}
