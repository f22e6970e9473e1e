// Proves that none of two signals of a kind is lost that come at once, one for the process and one
// for the thread: the program's own, or one that only the HRT has. So that both are pending
// together the thread has no processor meanwhile, which a process with real-time priority has
// instead.
#include "guest.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static struct shared {
    unsigned for_thread, for_process; // handled
    unsigned turns;                   // of the thread, when no handler runs
    bool done;
} volatile *shared;

enum { ROUNDS = 20, LONG_ROUNDS = 4, PATIENCE_MS = 10000 };

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (info->si_code == SI_TKILL)
        shared->for_thread++;
    else
        shared->for_process++;
}

static void keep_processor(int ms)
{
    struct timespec begin, now;
    NEED(clock_gettime(CLOCK_MONOTONIC, &begin) == 0);
    do
        NEED(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

static bool changes(volatile unsigned *value, unsigned before)
{
    for (int ms = 0; ms < PATIENCE_MS && *value == before; ms++)
        pass_ms(1);
    return *value != before;
}

// ms: before the signal for the process, for the thread's. own: the program sends that one, too.
static void send(const char *what, pid_t process, int rounds, int ms, bool own)
{
    int lost = 0;
    for (int i = 0; i < rounds && !lost; i++) {
        unsigned for_thread = shared->for_thread, for_process = shared->for_process;
        if (own)
            NEED(syscall(SYS_tgkill, process, process, SIGTRAP) == 0);
        keep_processor(ms);
        NEED(kill(process, SIGTRAP) == 0);
        keep_processor(5); // a poller may pass it on
        lost += own && !changes(&shared->for_thread, for_thread);
        lost += !changes(&shared->for_process, for_process);
        NEED(changes(&shared->turns, shared->turns));
    }
    say(what, "lost: %d", lost);
}

static void sender(pid_t process)
{
    cpu_set_t all, one;
    struct sched_param priority = {.sched_priority = 1};
    int cpu = 0;
    NEED(sched_getaffinity(0, sizeof(all), &all) == 0);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    NEED(sched_setaffinity(process, sizeof(one), &one) == 0);
    NEED(sched_setaffinity(0, sizeof(one), &one) == 0);
    if (sched_setscheduler(0, SCHED_FIFO, &priority)) {
        say("missing", "real-time priorities");
        return;
    }
    send("the program's", process, ROUNDS, 0, true);
    send("the watch's", process, LONG_ROUNDS, 900, false);
}

int main(void)
{
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(shared != MAP_FAILED);
    handle(SIGTRAP, handler, SA_RESTART);
    for (int i = 0; i < 300; i++)
        NEED(getppid() > 0);
    pid_t process = getpid(), child = fork();
    NEED(child >= 0);
    if (child == 0) {
        sender(process);
        shared->done = true;
        _exit(0);
    }
    while (!shared->done)
        shared->turns++; // the watch is for threads that compute
    wait_and_say("sender", child);
    return 0;
}
