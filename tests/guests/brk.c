// Proves that the heap's break moves up and down, that new heap is zero, and that what lies behind
// the break is not accessible.
#include "guest.h"

#include <setjmp.h>

static sigjmp_buf env;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    siglongjmp(env, 1);
}

static bool accessible(volatile char *at)
{
    if (sigsetjmp(env, 1))
        return false;
    *at = *at;
    return true;
}

int main(void)
{
    handle(SIGSEGV, handler, 0);
    char *start = sbrk(0);
    start = sbrk((long)(PAGE - (uintptr_t)start % PAGE)) + PAGE - (uintptr_t)start % PAGE;
    NEED(sbrk(0) == start);
    long size = 0;
    for (int i = 1; i <= 20; i++) {
        long step = i * i * 40000;
        NEED(sbrk(step) == start + size);
        NEED(start[size] == 0 && start[size + step - 1] == 0);
        memset(start + size, i, step);
        size += step;
    }
    say("grown to", "%ld", size);
    long sum = 0;
    for (long i = 0; i < size; i += 1000)
        sum += start[i];
    say("sum", "%ld", sum);
    say("last byte", "%s", yes(accessible(start + size - 1)));
    say("behind", "%s", yes(accessible(start + size + PAGE)));
    NEED(sbrk(-(size - 100000)) != (void *)-1);
    say("given back", "%s", yes(accessible(start + 200000)));
    say("kept", "%d", start[99999]);
    NEED(sbrk(200000) == start + 100000);
    say("zero again", "%d", start[200000]);
    NEED(brk(start) == 0);
    say("all given back", "%s", yes(sbrk(0) == start));
    say("impossible", "%s", outcome((long)sbrk(1L << 46)));
    say("still there", "%s", yes(sbrk(0) == start));
    char *big = malloc(100 << 20), *small = malloc(100);
    memset(big, 1, 100 << 20);
    memset(small, 2, 100);
    say("malloc", "%d %d", big[99 << 20], small[99]);
    free(big);
    free(small);
    return 0;
}
