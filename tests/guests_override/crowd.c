// Answers of several threads that share a lock, under signals, while others fork.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

// Alarms come in bursts: on a machine that forks more slowly than alarms come, endless ones would
// keep fork() from ever ending, as a signal restarts it.
enum { THREADS = 3, CHILDREN = 40, STATUS = 7, BURST = 10 };

static volatile int stop, wrong;
static volatile long alarms, left;
static long group;

__attribute__((noinline)) long locked(long turns)
{
    __asm__ volatile(".nops 8"); // room for a jump
    return -turns;
}

static void check(int right)
{
    if (!right)
        __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void one_turn(void)
{
    check(syscall(SYS_getpgrp) == group);
    check(locked(30) == 30);
}

static void on_alarm(int sig)
{
    (void)sig;
    alarms++;
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_RELAXED) == 0)
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    one_turn();
}

static void *worker(void *unused)
{
    (void)unused;
    while (!stop)
        one_turn();
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    pthread_t threads[THREADS];
    group = getpgid(0);
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, worker, NULL);
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        left = BURST;
        setitimer(ITIMER_REAL, &timer, NULL);
        pid_t pid = fork();
        if (pid == 0) {
            for (int turn = 0; turn < 20; turn++)
                one_turn();
            _exit(wrong ? 1 : STATUS);
        }
        check(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
              WEXITSTATUS(status) == STATUS);
    }
    while (!alarms)
        usleep(1000);
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("wrong %d\n", wrong);
    return 0;
}
