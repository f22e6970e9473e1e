// Proves that exceptions are not lost, doubled or taken for something else when timer signals meet
// them on their way: each is counted once, as what it is, and registers survive all of them.
// With an argument INT3 is among them.
#include "guest.h"

#include <sys/time.h>

enum { ROUNDS = 400, ALARMS = 20, INTERVAL_US = 300 };

static volatile sig_atomic_t alarms, illegal, divided, trapped;

static void on_alarm(int sig)
{
    (void)sig;
    alarms++;
}

static void on_exception(int sig, siginfo_t *info, void *context)
{
    (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    illegal += sig == SIGILL;
    divided += sig == SIGFPE;
    trapped += sig == SIGTRAP;
    if (sig != SIGTRAP) // both instructions are two bytes long; INT3 is behind itself already
        regs[REG_RIP] += 2;
}

int main(int argc, char **argv)
{
    (void)argv;
    struct sigaction alarm = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    NEED(sigaction(SIGALRM, &alarm, NULL) == 0);
    handle(SIGILL, on_exception, 0);
    handle(SIGFPE, on_exception, 0);
    handle(SIGTRAP, on_exception, 0);
    struct itimerval timer = {{0, INTERVAL_US}, {0, INTERVAL_US}}, none = {0};
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    uint64_t wrong = 0;
    int rounds = 0;
    for (uint64_t i = 0; rounds < ROUNDS || alarms < ALARMS; i++, rounds++) {
        uint64_t a = i, b = ~i, zero = 0, rax = 1, rdx = 0;
        __asm__ volatile("ud2\n\t"
                         "div %%ecx"
                         : "+r"(a), "+r"(b), "+a"(rax), "+d"(rdx), "+c"(zero)
                         :
                         : "memory", "cc");
        if (argc > 1)
            __asm__ volatile("int3" : : : "memory");
        wrong += a != i || b != ~i || rax != 1 || rdx || zero;
    }
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    say("illegal", "%s", yes(illegal == rounds));
    say("divided", "%s", yes(divided == rounds));
    say("trapped", "%s", yes(trapped == (argc > 1 ? rounds : 0)));
    say("wrong registers", "%lu", wrong);
    return 0;
}
