// Proves that leaving handlers with siglongjmp works any number of times: from faults, from
// asynchronous signals, and from the alternate stack (which must be free again afterwards).
#include "guest.h"

#include <setjmp.h>

static sigjmp_buf env;
static char altstack[65536];
static volatile int *volatile low = (int *)8;

static void jump(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    siglongjmp(env, sig);
}

static bool blocked(int sig)
{
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, sig);
}

int main(void)
{
    stack_t stack = {.ss_sp = altstack, .ss_size = sizeof(altstack)};
    NEED(sigaltstack(&stack, NULL) == 0);

    static const int flags[] = {0, SA_ONSTACK};
    for (unsigned f = 0; f < COUNT(flags); f++) {
        handle(SIGSEGV, jump, flags[f]);
        volatile int caught = 0;
        for (volatile int i = 0; i < 1000; i++) {
            if (sigsetjmp(env, 1) == 0)
                *low = 1;
            else
                caught++;
        }
        say("faults left by siglongjmp", "%d", caught);
        say("SEGV blocked", "%s", yes(blocked(SIGSEGV)));
    }

    handle(SIGUSR1, jump, SA_ONSTACK);
    volatile int caught = 0;
    for (volatile int i = 0; i < 200; i++) {
        if (sigsetjmp(env, 1) == 0)
            raise(SIGUSR1);
        else
            caught++;
    }
    say("signals left by siglongjmp", "%d", caught);

    // Without the mask being restored the signal stays blocked, and pending when raised again.
    if (sigsetjmp(env, 0) == 0)
        raise(SIGUSR1);
    say("blocked after a jump that keeps the mask", "%s", yes(blocked(SIGUSR1)));
    raise(SIGUSR1);
    sigset_t pending;
    sigpending(&pending);
    say("pending", "%s", yes(sigismember(&pending, SIGUSR1)));

    // Out of a compute loop, hit by a timer.
    handle(SIGALRM, jump, 0);
    volatile int rounds = 0;
    volatile uint64_t sum = 0;
    while (rounds < 20) {
        if (sigsetjmp(env, 1) == 0) {
            ualarm(2000, 0);
            for (;;)
                sum = sum * 3 + 1;
        }
        rounds++;
    }
    say("compute loops left", "%d", rounds);
    return 0;
}
