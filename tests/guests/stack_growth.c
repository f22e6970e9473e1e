// Proves that the stack grows to its limit and not past it. Argument: "grow" (deep but within the
// limit), "far" (an access far below the stack pointer), "handler" (past the limit, handler on the
// alternate stack), "thread" (into a thread's guard page), "growsdown", "die" (no handler).
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

static char altstack[65536];
static sigjmp_buf env;
static char *volatile lowest;
static volatile unsigned depth;

__attribute__((noinline)) static unsigned descend(unsigned left)
{
    volatile char block[16384];
    for (unsigned i = 0; i < sizeof(block); i += PAGE)
        block[i] = (char)left;
    lowest = (char *)block;
    depth++;
    unsigned below = left > 1 ? descend(left - 1) : 0;
    return below + (unsigned char)block[0];
}

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)context;
    int64_t below = lowest - (char *)info->si_addr;
    say("overflow", "%s code %d near %s", sigabbrev_np(sig), info->si_code,
        yes(below > -16384 && below < 65536));
    siglongjmp(env, 1);
}

static void *overflow(void *arg)
{
    stack_t stack = {.ss_sp = altstack, .ss_size = sizeof(altstack)};
    NEED(sigaltstack(&stack, NULL) == 0);
    depth = 0;
    if (sigsetjmp(env, 1) == 0)
        descend(1u << 30);
    // Blocks of 16 KiB and a bit in the stack's size, less what the kernel and libc put there.
    unsigned expected = *(size_t *)arg / (16384 + 48);
    say("depth as expected", "%s", yes(depth > expected - 40 && depth <= expected + 1));
    return NULL;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "grow";
    struct rlimit limit = {.rlim_cur = 8 << 20, .rlim_max = RLIM_INFINITY};
    NEED(setrlimit(RLIMIT_STACK, &limit) == 0);
    handle(SIGSEGV, handler, SA_ONSTACK);
    if (!strcmp(mode, "grow")) {
        say("sum", "%u", descend(440));
        say("depth", "%u", depth);
    } else if (!strcmp(mode, "far")) {
        uintptr_t here = (uintptr_t)__builtin_frame_address(0);
        volatile char *far = (volatile char *)(here - (7 << 20));
        *far = 42;
        say("far below", "%d", *far);
        far[3 << 20] = 43;
        say("in between", "%d", far[3 << 20]);
    } else if (!strcmp(mode, "handler")) {
        size_t size = limit.rlim_cur;
        for (int i = 0; i < 3; i++)
            overflow(&size);
    } else if (!strcmp(mode, "thread")) {
        pthread_attr_t attr;
        size_t size = 1 << 20;
        pthread_attr_init(&attr);
        NEED(pthread_attr_setstacksize(&attr, size) == 0);
        NEED(pthread_attr_setguardsize(&attr, 65536) == 0);
        for (int i = 0; i < 3; i++) {
            pthread_t thread;
            NEED(pthread_create(&thread, &attr, overflow, &size) == 0);
            pthread_join(thread, NULL);
        }
    } else if (!strcmp(mode, "growsdown")) {
        char *area = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        NEED(area != MAP_FAILED);
        NEED(munmap(area, 64 * PAGE) == 0);
        char *low = mmap(area + 62 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
        NEED(low != MAP_FAILED);
        for (unsigned i = 0; i < 40; i++)
            low[-(long)(i * PAGE) - 1] = (char)i;
        unsigned sum = 0;
        for (unsigned i = 0; i < 40; i++)
            sum += low[-(long)(i * PAGE) - 1];
        say("grown down", "%u", sum);
    } else {
        signal(SIGSEGV, SIG_DFL);
        say("descending", "%s", "now");
        descend(1u << 30);
    }
    return 0;
}
