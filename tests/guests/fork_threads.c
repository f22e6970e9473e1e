// Proves that a process with running threads can fork, and that the child goes on as a whole
// program: it allocates, computes, starts and joins threads, forks again, handles signals.
#include "guest.h"

#include <pthread.h>
#include <sched.h>

static volatile bool stop;
static int at_prepare, at_parent, at_child;

static void *busy(void *arg)
{
    volatile uint64_t *count = arg;
    while (!stop) {
        void *block = malloc(*count % 5000 + 1);
        (*count)++;
        free(block);
    }
    return NULL;
}

static void *child_thread(void *arg)
{
    return (void *)((long)arg * 2);
}

static volatile sig_atomic_t signals;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    signals++;
}

static int child_life(int generation)
{
    char *block = malloc(3 << 20);
    memset(block, generation, 3 << 20);
    pthread_t thread;
    void *result = NULL;
    NEED(pthread_create(&thread, NULL, child_thread, (void *)21) == 0);
    NEED(pthread_join(thread, &result) == 0);
    handle(SIGUSR1, handler, 0);
    signals = 0;
    raise(SIGUSR1);
    int status = 0;
    if (generation < 3) {
        pid_t child = fork();
        if (child == 0)
            _exit(child_life(generation + 1));
        NEED(waitpid(child, &status, 0) == child);
    }
    bool good = result == (void *)42 && signals == 1 && block[1 << 20] == generation;
    free(block);
    return good ? WEXITSTATUS(status) + 1 : 90;
}

static void prepare(void)
{
    at_prepare++;
}

static void parent(void)
{
    at_parent++;
}

static void child_hook(void)
{
    at_child++;
}

int main(void)
{
    pthread_atfork(prepare, parent, child_hook);
    pthread_t threads[3];
    uint64_t counts[3] = {0};
    for (int i = 0; i < 3; i++)
        NEED(pthread_create(&threads[i], NULL, busy, &counts[i]) == 0);
    for (int i = 0; i < 10; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            if (getppid() == getpid() || gettid() != getpid() || at_child != 1)
                _exit(91);
            exit(child_life(1));
        }
        wait_and_say("child", child);
    }
    for (int i = 0; i < 3; i++) {
        volatile uint64_t *count = &counts[i];
        for (uint64_t before = *count; *count == before;)
            sched_yield();
    }
    say("threads", "go on");
    stop = true;
    for (int i = 0; i < 3; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
    say("atfork", "%d %d %d", at_prepare, at_parent, at_child);
    return 0;
}
