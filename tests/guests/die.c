// Dies as told: "exit N", "signal N", "fault", "group N" (exit_group from a thread), "thread" (main
// leaves by pthread_exit, a thread goes on and returns), "last N" (the last thread to exit
// decides).
#include "guest.h"

#include <pthread.h>
#include <sys/syscall.h>

static int number;
static volatile int *volatile bad_address = (int *)16;

static void *leave(void *arg)
{
    (void)arg;
    pass_ms(10);
    exit(number);
}

static void *go_on(void *arg)
{
    (void)arg;
    pass_ms(30);
    say("thread", "goes on after main");
    return NULL;
}

static void *last(void *arg)
{
    (void)arg;
    while (thread_state(getpid()) != 'Z')
        pass_ms(1);
    syscall(SYS_exit, number);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "exit";
    number = argc > 2 ? atoi(argv[2]) : 0;
    say("how", "%s", how);
    pthread_t thread;
    if (!strcmp(how, "exit"))
        return number;
    if (!strcmp(how, "signal"))
        raise(number);
    if (!strcmp(how, "fault"))
        *bad_address = 1;
    if (!strcmp(how, "group")) {
        NEED(pthread_create(&thread, NULL, leave, NULL) == 0);
        for (;;)
            continue;
    }
    if (!strcmp(how, "thread")) {
        NEED(pthread_create(&thread, NULL, go_on, NULL) == 0);
        pthread_exit(NULL);
    }
    if (!strcmp(how, "last")) {
        NEED(pthread_create(&thread, NULL, last, NULL) == 0);
        syscall(SYS_exit, 5);
    }
    return 97;
}
