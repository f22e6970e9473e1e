// What all guests share: facts are printed as "name: value" lines that do not depend on addresses,
// times or process numbers, so that a native run of the same guest is the oracle.
#ifndef GUEST_H
#define GUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "thread_state.h"

#define PAGE 4096UL
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// One line, in one write(): usable in signal handlers, in order across threads and processes, and
// never printed twice by a fork.
__attribute__((format(printf, 2, 3))) static inline void say(const char *name, const char *format,
                                                             ...)
{
    char line[8192];
    int used = snprintf(line, sizeof(line), "%s: ", name);
    va_list args;
    va_start(args, format);
    used += vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    va_end(args);
    if (used > (int)sizeof(line) - 1)
        used = sizeof(line) - 1;
    line[used++] = '\n';
    int saved = errno;
    if (write(1, line, used) != used)
        _exit(99);
    errno = saved;
}

static inline const char *yes(bool value)
{
    return value ? "yes" : "no";
}

static inline const char *error_name(int error)
{
    const char *name = strerrorname_np(error);
    return name ? name : "?";
}

// Result of a call that returns -1 and sets errno.
static inline const char *outcome(long result)
{
    return result == -1 ? error_name(errno) : "ok";
}

// A guest's own assumptions; failing one is a defect of the test, not a finding.
#define NEED(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say("NEED failed", "line %d: %s: %s", __LINE__, #condition, strerror(errno));          \
            _exit(98);                                                                             \
        }                                                                                          \
    } while (0)

typedef void (*siginfo_handler)(int, siginfo_t *, void *);

static inline void handle(int sig, siginfo_handler handler, int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    NEED(sigaction(sig, &action, NULL) == 0);
}

// Print how a child ended.
static inline void say_status(const char *name, int status)
{
    if (WIFEXITED(status))
        say(name, "exit %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        say(name, "signal %s%s", sigabbrev_np(WTERMSIG(status)),
            WCOREDUMP(status) ? " (core)" : "");
    else if (WIFSTOPPED(status))
        say(name, "stopped by %s", sigabbrev_np(WSTOPSIG(status)));
    else
        say(name, "continued");
}

static inline void wait_and_say(const char *name, pid_t pid)
{
    int status;
    NEED(waitpid(pid, &status, 0) == pid);
    say_status(name, status);
}

// Let time pass without any signal being able to cut it short.
static inline void pass_ms(long ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        continue;
}

#endif
