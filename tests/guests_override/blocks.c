// A random walk through blocks of malloc(3) and its kin beside a model of them, in several threads,
// with children, a timer's signals and errors; then on, with the same blocks, out of the HRT.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 12, STEPS = 1500, THREADS = 3, STRIDE = 1021 };

struct walk {
    unsigned seed;
    struct {
        unsigned char *at;
        size_t size;
        unsigned char value;
    } block[BLOCKS];
};

static unsigned number(struct walk *walk, unsigned below)
{
    walk->seed = walk->seed * 1103515245 + 12345;
    return (walk->seed >> 8) % below;
}

static void fail(const char *what)
{
    dprintf(1, "%s\n", what);
    _exit(1);
}

static void on_signal(int sig)
{
    (void)sig;
}

static void fill(struct walk *walk, int i)
{
    walk->block[i].value = (unsigned char)number(walk, 256);
    for (size_t at = 0; at < walk->block[i].size; at += STRIDE)
        walk->block[i].at[at] = walk->block[i].value;
}

// The first `size` bytes are as they were filled.
static void verify(const struct walk *walk, int i, size_t size)
{
    for (size_t at = 0; at < size; at += STRIDE)
        if (walk->block[i].at[at] != walk->block[i].value)
            fail("another value");
}

static size_t some_size(struct walk *walk)
{
    static const unsigned limits[] = {200, 70000, 600000, 3 << 20, 36 << 20};
    unsigned which = number(walk, 40);
    return 1 + number(walk, limits[which ? which % 4 : 4]);
}

static void make(struct walk *walk, int i)
{
    size_t size = some_size(walk), alignment = 16;
    void *at = NULL;
    errno = ENOTTY;
    switch (number(walk, 6)) {
    case 0:
        at = calloc(size / 7 + 1, 7);
        for (size_t k = 0; k < size; k++)
            if (((unsigned char *)at)[k])
                fail("not zero");
        break;
    case 1:
        alignment = 64u << number(walk, 8);
        if (posix_memalign(&at, alignment, size))
            fail("posix_memalign");
        break;
    case 2:
        at = realloc(NULL, size);
        break;
    default:
        at = malloc(size);
    }
    if (!at || (uintptr_t)at % alignment || malloc_usable_size(at) < size || errno != ENOTTY)
        fail("allocated wrongly");
    walk->block[i].at = at;
    walk->block[i].size = size;
    fill(walk, i);
}

static void resize(struct walk *walk, int i)
{
    size_t size = some_size(walk), before = walk->block[i].size;
    walk->block[i].at = realloc(walk->block[i].at, size);
    if (!walk->block[i].at || malloc_usable_size(walk->block[i].at) < size)
        fail("realloc");
    verify(walk, i, size < before ? size : before);
    walk->block[i].size = size;
    fill(walk, i);
}

static void drop(struct walk *walk, int i)
{
    verify(walk, i, walk->block[i].size);
    errno = ENOTTY;
    free(walk->block[i].at);
    if (errno != ENOTTY)
        fail("free changes errno");
    walk->block[i].at = NULL;
}

static void go(struct walk *walk, int steps)
{
    for (int step = 0; step < steps; step++) {
        int i = (int)number(walk, BLOCKS);
        if (!walk->block[i].at)
            make(walk, i);
        else if (number(walk, 3))
            drop(walk, i);
        else
            resize(walk, i);
    }
}

static void *in_thread(void *argument)
{
    struct walk walk = {.seed = (unsigned)(uintptr_t)argument};
    go(&walk, STEPS);
    for (int i = 0; i < BLOCKS; i++)
        if (walk.block[i].at)
            drop(&walk, i);
    return NULL;
}

static void in_child(struct walk *walk)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        go(walk, STEPS / 10);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status)
        fail("child");
}

// Sizes that nobody has, for the compiler not to see.
static volatile size_t most = PTRDIFF_MAX, half = SIZE_MAX / 2;

static void refusals(void)
{
    char *block = malloc(1 << 20);
    strcpy(block, "kept");
    errno = 0;
    if (malloc(most) || errno != ENOMEM || calloc(half, 3) || realloc(block, most) ||
        realloc(block, most + 2) || errno != ENOMEM || strcmp(block, "kept"))
        fail("not refused");
    if (realloc(block, 0))
        fail("realloc to nothing");
    char *copy = NULL;
    block = malloc(1 << 20);
    memset(block, 'x', (1 << 20) - 1);
    block[(1 << 20) - 1] = 0;
    if (asprintf(&copy, "%s", block) != (1 << 20) - 1 || strcmp(copy, block))
        fail("asprintf");
    free(copy);
    copy = strdup(block);
    free(block);
    free(copy);
}

static void leave(void)
{
    struct sock_filter allow = {.code = BPF_RET | BPF_K, .k = SECCOMP_RET_ALLOW};
    struct sock_fprog filter = {.len = 1, .filter = &allow};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        fail("leaving");
}

int main(void)
{
    static struct walk walk = {.seed = 5};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {0};
    pthread_t thread[THREADS];
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, in_thread, (void *)(i + 1));
    for (int i = 0; i < 5; i++) {
        go(&walk, STEPS / 5);
        in_child(&walk);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    refusals();
    struct mallinfo2 info = mallinfo2();
    if (info.hblks > 4 * BLOCKS || info.hblkhd > 1u << 30)
        fail("mallinfo2");
    malloc_trim(0);
    leave();
    go(&walk, STEPS);
    puts("right");
    return 0;
}
