// Calls that a stop interrupts, and processes that begin meanwhile: nothing of it may be seen.
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 25, CHILD = 9 };

extern char **environ;
static volatile int done, wrong;
static int fds[2];

static void check(int right)
{
    if (!right)
        __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void *sleeper(void *unused)
{
    int epoll = epoll_create1(0);
    sigset_t all, none;
    (void)unused;
    sigfillset(&all);
    sigemptyset(&none);
    sigaddset(&none, SIGUSR1); // which nobody sends
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!done) {
        struct timespec time = {.tv_nsec = 3000000};
        struct timeval wait = {.tv_usec = 3000};
        struct epoll_event event;
        check(nanosleep(&time, NULL) == 0);
        check(poll(NULL, 0, 3) == 0);
        check(epoll_wait(epoll, &event, 1, 3) == 0);
        check(select(0, NULL, NULL, NULL, &wait) == 0);
        check(sigtimedwait(&none, NULL, &time) == -1);
    }
    close(epoll);
    return NULL;
}

static void *reader(void *unused)
{
    char byte;
    ssize_t n;
    (void)unused;
    while ((n = read(fds[0], &byte, 1)) == 1)
        ;
    check(n == 0);
    return NULL;
}

static int status_of(pid_t pid)
{
    int status = -1;
    check(waitpid(pid, &status, 0) == pid);
    return status;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return CHILD;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, 7000}, {0, 7000}};
    char *args[] = {argv[0], (char *)"child", NULL};
    pthread_t threads[2];
    if (pipe(fds))
        return 1;
    pthread_create(&threads[0], NULL, sleeper, NULL);
    pthread_create(&threads[1], NULL, reader, NULL);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t pid;
        check(posix_spawn(&pid, argv[0], NULL, NULL, args, environ) == 0);
        check(WEXITSTATUS(status_of(pid)) == CHILD);
        pid = fork();
        if (pid == 0)
            _exit(CHILD);
        check(WEXITSTATUS(status_of(pid)) == CHILD);
        check(write(fds[1], "x", 1) == 1);
    }
    done = 1;
    close(fds[1]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("wrong %d\n", wrong);
    return 0;
}
