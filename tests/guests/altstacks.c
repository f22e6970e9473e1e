// Proves that alternate signal stacks are as on Linux: what handlers see of them and what becomes
// of them when handlers change them, or their frames, and return; SS_AUTODISARM; and that a frame
// that does not fit in one ends in SIGSEGV instead of in the memory below it.
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static char first[65536], second[65536];
static volatile int hits, faults;
static sigjmp_buf env;
static volatile int *volatile bad_address = (int *)8;

static const char *name_of(const void *stack)
{
    return stack == first ? "first" : stack == second ? "second" : stack ? "another" : "none";
}

static void say_stack(const char *name, const stack_t *stack)
{
    say(name, "%s size %zu flags %x", name_of(stack->ss_sp), stack->ss_size, stack->ss_flags);
}

static void say_now(const char *name)
{
    stack_t now;
    NEED(sigaltstack(NULL, &now) == 0);
    say_stack(name, &now);
}

static const char *change(void *stack, size_t size, unsigned flags)
{
    stack_t new = {.ss_sp = stack, .ss_size = size, .ss_flags = (int)flags};
    return outcome(sigaltstack(&new, NULL));
}

static void sets(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    say_stack("  frame", &((ucontext_t *)context)->uc_stack);
    say_now("  in the handler");
    say("  set", "%s", change(second, sizeof(second), 0));
}

static void disables(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    say("  disable", "%s", change(NULL, 0, SS_DISABLE));
}

static void edits(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    ((ucontext_t *)context)->uc_stack.ss_flags = SS_DISABLE;
}

static void edits_wrongly(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    ucontext_t *frame = context;
    frame->uc_stack.ss_sp = second;
    frame->uc_stack.ss_flags = 77;
}

static void handled(const char *name, siginfo_handler handler, int flags)
{
    handle(SIGUSR1, handler, flags);
    NEED(raise(SIGUSR1) == 0);
    say_now(name);
}

static void *changes(void *unused)
{
    say_now("in the beginning");
    handled("set", sets, 0);
    change(NULL, 0, SS_DISABLE);
    handled("disabled, set", sets, 0);
    change(first, sizeof(first), 0);
    handled("set to another", sets, 0);
    handled("on it, set", sets, SA_ONSTACK);
    handled("disabled by the handler", disables, 0);
    handled("disabled in the frame", edits, 0);
    change(first, sizeof(first), 0);
    handled("nonsense in the frame", edits_wrongly, 0);
    say("autodisarm", "%s", change(first, sizeof(first), SS_ONSTACK | SS_AUTODISARM));
    say_now("autodisarm");
    handled("autodisarm, on it", sets, SA_ONSTACK);
    change(first, sizeof(first), SS_AUTODISARM);
    handled("autodisarm, not on it", sets, 0);
    say("too small", "%s", change(first, 10, 0));
    say("unknown flags", "%s", change(first, sizeof(first), 5));
    say("disabled with a size", "%s", change(first, 2048, SS_DISABLE));
    say_now("in the end");
    return unused;
}

static void count(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    hits++;
}

static void recurse(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (++hits < 1000)
        (void)!((int (*volatile)(int))raise)(sig);
}

static void leave(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    say("  fault", "code %d address %s", info->si_code, yes(info->si_addr));
    faults++;
    siglongjmp(env, 1);
}

enum { SMALL = 2048 }; // MINSIGSTKSZ, which no frame with extended state fits in

static void small(unsigned flags)
{
    unsigned char *memory =
        mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(memory != MAP_FAILED);
    memset(memory, 7, 4 * PAGE);
    NEED(strcmp(change(memory + 2 * PAGE, SMALL, flags), "ok") == 0);
    handle(SIGUSR1, count, SA_ONSTACK);
    raise(SIGUSR1);
    bool whole = true;
    for (unsigned i = 0; i < 2 * PAGE; i++)
        whole = whole && memory[i] == 7;
    say("  memory below is whole", "%s, handled %d", yes(whole), hits);
}

static void too_small(void)
{
    small(0);
}

static void too_small_autodisarm(void)
{
    small(SS_AUTODISARM);
}

static void too_small_handled(void)
{
    change(first, SMALL, 0);
    handle(SIGUSR1, count, SA_ONSTACK);
    handle(SIGSEGV, leave, 0);
    if (sigsetjmp(env, 1) == 0)
        raise(SIGUSR1);
    say("  handled", "%d, faults %d", hits, faults);
}

static void too_small_for_a_fault(void)
{
    change(first, SMALL, 0);
    handle(SIGSEGV, leave, SA_ONSTACK);
    if (sigsetjmp(env, 1) == 0)
        *bad_address = 1;
    say("  faults", "%d", faults);
}

static void used_up(void)
{
    change(first, 16384, 0);
    handle(SIGUSR1, recurse, SA_ONSTACK | SA_NODEFER);
    raise(SIGUSR1);
    say("  handled", "%d", hits);
}

static void in_child(const char *name, void (*run)(void))
{
    pid_t child = fork();
    if (child == 0) {
        run();
        _exit(44);
    }
    wait_and_say(name, child);
}

int main(void)
{
    pthread_t thread;
    changes(NULL);
    NEED(pthread_create(&thread, NULL, changes, NULL) == 0 && pthread_join(thread, NULL) == 0);
    in_child("too small", too_small);
    in_child("too small, autodisarm", too_small_autodisarm);
    in_child("too small, SIGSEGV handled", too_small_handled);
    in_child("too small for a fault", too_small_for_a_fault);
    in_child("used up", used_up);
    return 0;
}
