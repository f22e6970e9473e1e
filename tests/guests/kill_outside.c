// Proves that signals from another process reach a program that only computes: handlers run, the
// default action ends it, SIGSTOP and SIGCONT stop it and let it go on, SIGKILL works at any time.
#include "guest.h"

#include <sched.h>
#include <sys/mman.h>

struct shared {
    volatile uint64_t count;
    volatile int signals, ready;
};
static struct shared *shared;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (info->si_pid == getppid())
        shared->signals++;
}

static pid_t start(void)
{
    shared->ready = shared->signals = 0;
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0); // SIGTSTP stops nothing in an orphaned process group
        handle(SIGUSR1, handler, 0);
        shared->ready = 1;
        for (;;)
            shared->count++;
    }
    while (!shared->ready)
        sched_yield();
    return child;
}

static bool counting(void)
{
    uint64_t before = shared->count;
    for (int i = 0; i < 5000 && shared->count == before; i++)
        pass_ms(1);
    return shared->count != before;
}

int main(void)
{
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(shared != MAP_FAILED);
    pid_t child = start();
    for (int i = 1; i <= 50; i++) {
        NEED(kill(child, SIGUSR1) == 0);
        while (shared->signals < i)
            sched_yield();
    }
    say("handled", "%d", shared->signals);
    int status;
    for (int i = 0; i < 5; i++) {
        NEED(kill(child, SIGSTOP) == 0);
        NEED(waitpid(child, &status, WUNTRACED) == child);
        say_status("stop", status);
        uint64_t before = shared->count;
        pass_ms(20);
        say("stands still", "%s", yes(shared->count == before));
        NEED(kill(child, SIGCONT) == 0);
        NEED(waitpid(child, &status, WCONTINUED) == child);
        say_status("cont", status);
        say("goes on", "%s", yes(counting()));
    }
    NEED(kill(child, SIGTSTP) == 0);
    NEED(waitpid(child, &status, WUNTRACED) == child);
    say_status("tstp", status);
    kill(child, SIGTERM);
    kill(child, SIGCONT);
    wait_and_say("ended while stopped", child);

    static const int ends[] = {SIGTERM, SIGINT, SIGKILL, SIGALRM};
    for (unsigned i = 0; i < COUNT(ends); i++) {
        child = start();
        NEED(kill(child, ends[i]) == 0);
        wait_and_say("ended", child);
    }
    // As early as possible: anywhere in the child's birth.
    for (int i = 0; i < 20; i++) {
        child = fork();
        if (child == 0)
            for (;;)
                shared->count++;
        for (volatile int spin = 0; spin < i * 20000; spin++)
            continue;
        kill(child, i % 2 ? SIGTERM : SIGKILL);
        NEED(waitpid(child, &status, 0) == child);
        NEED(WIFSIGNALED(status) && WTERMSIG(status) == (i % 2 ? SIGTERM : SIGKILL));
    }
    say("ended early", "20");
    return 0;
}
