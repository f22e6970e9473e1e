// What the tests of the AeroKernel's interface share: each prints what it has found to hold. They
// are compiled as Linux programs, whose other virtual CPUs are threads of Linux, and as native
// ones, whose other virtual CPU is there from the beginning.
#ifndef CHECK_H
#define CHECK_H

#include <aerokernel.h>
#include <errno.h>
#include <string.h>

#ifdef AEROKERNEL_NATIVE

#include <aerokernel/native.h>

#define say ak_print
#define give_up ak_exit

// What runs on the other virtual CPU.
typedef struct ak_thread *elsewhere;

static inline int begin_elsewhere(elsewhere *ret, void *(*fn)(void *), void *arg)
{
    struct ak_thread_options options = {.cpu = 1};
    return ak_thread_create(ret, fn, arg, &options);
}

static inline void end_elsewhere(elsewhere other)
{
    ak_thread_join(other);
}

static inline void serve_until_released(void)
{
}

#else

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define say(...) (printf(__VA_ARGS__), puts(""))
#define give_up exit

typedef pthread_t elsewhere;

static inline int begin_elsewhere(elsewhere *ret, void *(*fn)(void *), void *arg)
{
    return pthread_create(ret, NULL, fn, arg);
}

static inline void end_elsewhere(elsewhere other)
{
    pthread_join(other, NULL);
}

static inline void serve_until_released(void)
{
    ak_cpu_serve();
}

#endif

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say("line %d: not so: %s", __LINE__, #condition);                                      \
            give_up(1);                                                                            \
        }                                                                                          \
    } while (0)

// Run a part of the test and say that nothing in it has failed.
#define PART(fn)                                                                                   \
    do {                                                                                           \
        fn();                                                                                      \
        say(#fn);                                                                                  \
    } while (0)

static inline void attach(void)
{
    CHECK(ak_attach() == 0);
    CHECK(ak_attach() == 0); // once more does no harm
}

#endif
