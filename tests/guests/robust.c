// Proves that robust mutexes whose owner dies are handed on with EOWNERDEAD: an owner that is a
// thread, and owners that are processes ended by exit, by SIGKILL and by execve.
#include "guest.h"

#include <pthread.h>
#include <sys/mman.h>

static pthread_mutex_t *mutex;

static void *die_holding(void *arg)
{
    (void)arg;
    pthread_mutex_lock(mutex);
    return NULL;
}

static void take_over(const char *name)
{
    int error = pthread_mutex_lock(mutex);
    say(name, "%s", error ? error_name(error) : "locked");
    if (error == EOWNERDEAD)
        NEED(pthread_mutex_consistent(mutex) == 0);
    NEED(pthread_mutex_unlock(mutex) == 0);
}

int main(void)
{
    mutex = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(mutex != MAP_FAILED);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    NEED(pthread_mutex_init(mutex, &attr) == 0);

    pthread_t thread;
    NEED(pthread_create(&thread, NULL, die_holding, NULL) == 0);
    pthread_join(thread, NULL);
    take_over("thread died");

    for (int way = 0; way < 3; way++) {
        int ready[2];
        NEED(pipe(ready) == 0);
        pid_t child = fork();
        if (child == 0) {
            pthread_mutex_lock(mutex);
            NEED(write(ready[1], "x", 1) == 1);
            if (way == 0)
                _exit(3);
            if (way == 1)
                pause();
            execl("/bin/true", "true", (char *)NULL);
            _exit(9);
        }
        char byte;
        NEED(read(ready[0], &byte, 1) == 1);
        if (way == 1) {
            pass_ms(5);
            kill(child, SIGKILL);
        }
        take_over(way == 0 ? "process exited" : way == 1 ? "process killed" : "process execed");
        wait_and_say("it ended by", child);
    }
    return 0;
}
