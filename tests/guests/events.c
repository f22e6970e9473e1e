// Proves epoll, eventfd, timerfd, inotify, signalfd and socket waits between threads and processes.
#include "guest.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int event_fd, answer_fd;

static void *answer(void *arg)
{
    uint64_t value, sum = 0;
    for (int i = 0; i < 100; i++) {
        NEED(read(event_fd, &value, 8) == 8);
        sum += value;
        NEED(write(answer_fd, &value, 8) == 8);
    }
    *(uint64_t *)arg = sum;
    return NULL;
}

static void add(int epoll, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void wait_one(int epoll, const char *name)
{
    struct epoll_event event;
    int count = epoll_wait(epoll, &event, 1, -1);
    say(name, "%d data %lx events %x", count, count == 1 ? event.data.u64 : 0,
        count == 1 ? event.events : 0);
}

int main(void)
{
    event_fd = eventfd(0, 0);
    answer_fd = eventfd(0, 0);
    pthread_t thread;
    uint64_t sum = 0, value;
    NEED(pthread_create(&thread, NULL, answer, &sum) == 0);
    for (uint64_t i = 1; i <= 100; i++) {
        NEED(write(event_fd, &i, 8) == 8);
        NEED(read(answer_fd, &value, 8) == 8);
        NEED(value == i);
    }
    pthread_join(thread, NULL);
    say("eventfd", "%lu", sum);

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    add(epoll, event_fd, EPOLLIN, 0x123456789abcdef);
    value = 1;
    NEED(write(event_fd, &value, 8) == 8);
    wait_one(epoll, "epoll on eventfd");
    NEED(read(event_fd, &value, 8) == 8);

    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec time = {.it_value.tv_nsec = 5000000, .it_interval.tv_nsec = 5000000};
    NEED(timerfd_settime(timer, 0, &time, NULL) == 0);
    add(epoll, timer, EPOLLIN, 2);
    wait_one(epoll, "epoll on timerfd");
    NEED(read(timer, &value, 8) == 8);
    say("expired", "%s", yes(value >= 1));
    pass_ms(20);
    NEED(read(timer, &value, 8) == 8);
    say("expired more than once", "%s", yes(value >= 3));
    NEED(epoll_ctl(epoll, EPOLL_CTL_DEL, timer, NULL) == 0);
    close(timer);

    char directory[] = "/tmp/events-guest-XXXXXX", path[64], buffer[4096];
    NEED(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/file", directory);
    int watch = inotify_init1(IN_CLOEXEC);
    NEED(inotify_add_watch(watch, directory, IN_CREATE | IN_DELETE) > 0);
    add(epoll, watch, EPOLLIN, 3);
    pid_t child = fork();
    if (child == 0) {
        close(open(path, O_CREAT | O_WRONLY, 0600));
        _exit(0);
    }
    wait_one(epoll, "epoll on inotify");
    wait_and_say("child", child);
    NEED(read(watch, buffer, sizeof(buffer)) > 0);
    struct inotify_event *event = (void *)buffer;
    say("inotify", "%x %s", event->mask, event->name);
    unlink(path);
    NEED(read(watch, buffer, sizeof(buffer)) > 0);
    say("inotify", "%x %s", event->mask, event->name);
    rmdir(directory);
    close(watch);

    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, 0);
    add(epoll, signals, EPOLLIN, 4);
    child = fork();
    if (child == 0)
        _exit(7);
    wait_one(epoll, "epoll on signalfd");
    struct signalfd_siginfo info;
    NEED(read(signals, &info, sizeof(info)) == sizeof(info));
    say("child by signalfd", "%d status %d right %s", info.ssi_signo, info.ssi_status,
        yes(info.ssi_pid == (uint32_t)child));
    wait_and_say("child", child);

    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    NEED(bind(server, (void *)&address, length) == 0 && listen(server, 5) == 0);
    NEED(getsockname(server, (void *)&address, &length) == 0);
    add(epoll, server, EPOLLIN | EPOLLET, 5);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    NEED(connect(client, (void *)&address, length) == 0);
    wait_one(epoll, "epoll on a listener");
    int accepted = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    NEED(accepted >= 0 && send(client, "hello", 5, 0) == 5);
    add(epoll, accepted, EPOLLIN | EPOLLRDHUP, 6);
    wait_one(epoll, "epoll on a connection");
    say("received", "%ld", (long)recv(accepted, buffer, sizeof(buffer), 0));
    shutdown(client, SHUT_WR);
    wait_one(epoll, "epoll on the end");
    say("end", "%ld", (long)recv(accepted, buffer, sizeof(buffer), 0));
    return 0;
}
