// Proves that affinity, getcpu and CPU counts are what Linux says.
#include "guest.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

static int moved_wrong;

static void *follow(void *arg)
{
    cpu_set_t *allowed = arg, one;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, allowed))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        NEED(sched_setaffinity(0, sizeof(one), &one) == 0);
        unsigned now, node;
        NEED(syscall(SYS_getcpu, &now, &node, NULL) == 0);
        moved_wrong += now != (unsigned)cpu;
        cpu_set_t read_back;
        NEED(sched_getaffinity(0, sizeof(read_back), &read_back) == 0);
        moved_wrong += !CPU_EQUAL(&one, &read_back);
        // The vdso's answer (glibc may take it from rseq).
        int fast = sched_getcpu();
        moved_wrong += fast != cpu;
    }
    NEED(sched_setaffinity(0, sizeof(*allowed), allowed) == 0);
    return NULL;
}

int main(void)
{
    cpu_set_t allowed;
    NEED(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
    say("allowed", "%d", CPU_COUNT(&allowed));
    say("configured", "%ld", sysconf(_SC_NPROCESSORS_CONF));
    say("online", "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    follow(&allowed);
    say("wrong after moving", "%d", moved_wrong);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, follow, &allowed) == 0);
    pthread_join(thread, NULL);
    say("wrong in a thread", "%d", moved_wrong);
    bool sane = true;
    for (int i = 0; i < 1000; i++)
        sane &= CPU_ISSET(sched_getcpu(), &allowed);
    say("getcpu within the allowed", "%s", yes(sane));
    CPU_ZERO(&allowed);
    say("empty set", "%s", outcome(sched_setaffinity(0, sizeof(allowed), &allowed)));
    say("priority", "%d", nice(0));
    say("policy", "%d", sched_getscheduler(0));
    return 0;
}
