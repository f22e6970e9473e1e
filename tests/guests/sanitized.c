// Does what sanitizers instrument: blocks of many sizes, threads with a mutex, a fault that a
// handler answers, a fork. Their shadow memory is terabytes of fixed addresses, and their own calls
// and signal handlers lie between the program and Linux.
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/wait.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long total;
static sigjmp_buf out;

static void *add(void *argument)
{
    for (int i = 0; i < 1000; i++) {
        char *block = malloc((size_t)(i % 100 + 1) * 50);
        NEED(block);
        memset(block, i, (size_t)(i % 100 + 1) * 50);
        pthread_mutex_lock(&mutex);
        total += block[i % 50];
        pthread_mutex_unlock(&mutex);
        free(block);
    }
    return argument;
}

static void leave(int signal)
{
    siglongjmp(out, signal);
}

int main(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        NEED(pthread_create(&threads[i], NULL, add, NULL) == 0);
    for (int i = 0; i < 4; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
    say("total", "%ld", total);

    struct sigaction action = {.sa_handler = leave};
    NEED(sigaction(SIGSEGV, &action, NULL) == 0);
    int signal = sigsetjmp(out, 1);
    if (!signal)
        *(volatile int *)(uintptr_t)PAGE = 1;
    say("left by signal", "%d", signal);

    fflush(stdout);
    pid_t child = fork();
    NEED(child >= 0);
    if (!child) {
        free(malloc(5000));
        _exit(7);
    }
    int status;
    NEED(waitpid(child, &status, 0) == child);
    say("child", "%d", WEXITSTATUS(status));
    return 0;
}
