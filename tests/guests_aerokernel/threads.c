// Threads on one virtual CPU and on several.
#include "check.h"

#ifndef AEROKERNEL_NATIVE
#include <unistd.h>
#endif

static char order[64];

static void *letters(void *arg)
{
    for (int i = 0; i < 3; i++) {
        order[strlen(order)] = *(char *)arg;
        ak_yield();
    }
    return arg;
}

static void turns(void)
{
    struct ak_thread *a, *b;
    CHECK(ak_thread_create(&a, letters, "a", NULL) == 0);
    CHECK(ak_thread_create(&b, letters, "b", NULL) == 0);
    CHECK(strcmp(order, "") == 0); // nothing runs before somebody waits
    CHECK(strcmp(ak_thread_join(a), "a") == 0);
    CHECK(strcmp(ak_thread_join(b), "b") == 0);
    CHECK(strcmp(order, "ababab") == 0);
}

static void *deep(void *arg)
{
    volatile char room[200000];
    memset((char *)room, 1, sizeof(room));
    ak_thread_exit((char *)arg + room[100]);
}

static void stacks(void)
{
    struct ak_thread *thread;
    struct ak_thread_options options = {.cpu = AK_CPU_THIS, .stack_size = 256 * 1024};
    CHECK(ak_thread_create(&thread, deep, (void *)41, &options) == 0);
    CHECK(ak_thread_join(thread) == (void *)42);
    options.stack_size = (size_t)1 << 40;
    CHECK(ak_thread_create(&thread, deep, NULL, &options) == -ENOMEM);
    options = (struct ak_thread_options){.cpu = 1000};
    CHECK(ak_thread_create(&thread, deep, NULL, &options) == -EINVAL);
}

static unsigned ended;

static void *count(void *arg)
{
    double x = (double)(size_t)arg; // floating point is a thread's own across switches
    for (int i = 0; i < 10; i++) {
        x = x * 0.5 + 1;
        ak_yield();
    }
    CHECK(x > 1.9 && x < 3);
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void many(void)
{
    struct ak_memory_info before, after;
    static struct ak_thread *threads[1000];
    ak_memory_info(&before);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < 1000; i++)
            CHECK(ak_thread_create(&threads[i], count, (void *)i, NULL) == 0);
        for (size_t i = 0; i < 1000; i++)
            CHECK(ak_thread_join(threads[i]) == NULL);
    }
    CHECK(ended == 5000);
    ak_memory_info(&after);
    CHECK(after.used_bytes < before.used_bytes + (1 << 20)); // what is kept for later is little
}

static void detached(void)
{
    struct ak_thread *thread;
    ended = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(ak_thread_create(&thread, count, (void *)1, NULL) == 0);
        if (i % 2)
            ak_yield();
        ak_thread_detach(thread);
    }
    while (ended < 100)
        ak_yield();
}

#ifndef AEROKERNEL_NATIVE
static void *call_linux(void *arg)
{
    (void)arg;
    CHECK(getpid() > 0 && ak_thread_self() != NULL);
    return malloc(100000);
}

static void system_calls(void)
{
    struct ak_thread *thread;
    CHECK(ak_thread_create(&thread, call_linux, NULL, NULL) == 0);
    free(ak_thread_join(thread));
}
#endif

static unsigned server_cpu;
static struct ak_event serving;

static void *serve(void *arg)
{
    CHECK(ak_attach() == 0);
    server_cpu = ak_cpu();
    ak_event_signal(arg);
    serve_until_released();
    return NULL;
}

static void *where(void *arg)
{
    ak_yield();
    __atomic_add_fetch((unsigned *)arg, 1, __ATOMIC_RELAXED);
    return (void *)(size_t)ak_cpu();
}

static void other_cpu(void)
{
    elsewhere server;
    unsigned sum = 0;
    CHECK(begin_elsewhere(&server, serve, &serving) == 0);
    ak_event_wait(&serving);
    CHECK(server_cpu != ak_cpu());
    struct ak_thread_options options = {.cpu = server_cpu};
    for (int i = 0; i < 200; i++) {
        struct ak_thread *there, *here;
        CHECK(ak_thread_create(&there, where, &sum, &options) == 0);
        CHECK(ak_thread_create(&here, where, &sum, NULL) == 0);
        CHECK(ak_thread_join(there) == (void *)(size_t)server_cpu);
        CHECK(ak_thread_join(here) == (void *)(size_t)ak_cpu());
    }
    CHECK(sum == 400);
    CHECK(ak_cpu_release(server_cpu) == 0);
    end_elsewhere(server);
    CHECK(ak_cpu_release(server_cpu) == -EINVAL || ak_cpu_release(server_cpu) == 0);
}

int main(void)
{
    attach();
    PART(turns);
    PART(stacks);
    PART(many);
    PART(detached);
#ifndef AEROKERNEL_NATIVE
    PART(system_calls);
#endif
    PART(other_cpu);
    return 0;
}
