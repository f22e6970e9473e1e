// What the accelerator model takes: an empty function called in the HRT, from another core.
//
// usage: invoke CALLER-CPU HRT-CPU SINGLES BATCHES
#define _GNU_SOURCE
#include "micro.h"

#include <multiverse.h>
#include <sched.h>

static void stay_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        perror("invoke: sched_setaffinity");
        exit(1);
    }
}

static uint64_t empty(void)
{
    return 0;
}

static void call(void *hrt)
{
    mv_hrt_call(hrt, NULL, (void *)empty, 0, NULL);
}

int main(int argc, char **argv)
{
    struct sampling how;
    struct mv_hrt *hrt;

    if (argc != 5 || read_sampling(argv + 3, &how)) {
        fputs("usage: invoke CALLER-CPU HRT-CPU SINGLES BATCHES\n", stderr);
        return 2;
    }
    stay_on(atoi(argv[2])); // the HRT's thread inherits that
    if (mv_hrt_create(NULL, &hrt)) {
        fprintf(stderr, "invoke: %s\n", mv_error());
        return 1;
    }
    stay_on(atoi(argv[1]));
    round_trips(&how, call, hrt);
    return mv_hrt_destroy(hrt) ? 1 : 0;
}
