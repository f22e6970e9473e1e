// System calls that override modules answer, and what their code may call (aerokernel/override.h).
//
// While a module answers, mv_trap.active is MV_TRAP_OVERRIDE: the ROS, which could otherwise take
// the event over and begin anew, lets it come to its end first, and so does a fork. Calls that the
// module makes itself arrive at the entry as any do, which sees from the same word that they are
// for Linux.

#include "include/aerokernel/override.h"

#include <asm/unistd.h>

#include "aerokernel/image.h"
#include "aerokernel/kernel.h"
#include "base/string.h"
#include "base/sys.h"
#include "superposition/signal.h"

#define FLAG_TF 0x100ULL

static struct mv_control *control(void)
{
    return (struct mv_control *)AK_CONTROL_PAGE;
}

static bool in_window(uint64_t address)
{
    return address - AK_WINDOWS < AK_WINDOWS_MAX * AK_WINDOW_STRIDE;
}

// The window: by the stack, which in answers to system calls is there, else by the GS base. NULL if
// that is the program's own. Functions are only taken over where there is FSGSBASE.
static char *own_window(void)
{
    uint64_t at;
    __asm__ volatile("mov %%rsp, %0" : "=r"(at));
    if (!in_window(at))
        __asm__ volatile("rdgsbase %0" : "=r"(at));
    return in_window(at) ? (char *)ALIGN_DOWN(at, AK_WINDOW_STRIDE) : NULL;
}

// ---- Sections that are not interrupted ----------------------------------------------------------

// The ROS closes the gate and then looks at the words of all virtual CPUs, having had each pass a
// barrier in between; so here the compiler's order is enough.
static bool may_begin(void)
{
    __asm__ volatile("" : : : "memory");
    return !READ_ONCE(control()->closed);
}

void ak_hold(void)
{
    char *window = own_window();
    struct mv_trap *trap = window ? ak_trap(window) : NULL;
    if (!trap)
        return;
    WRITE_ONCE(trap->held, trap->held + 1);
    while (trap->held == 1 && !may_begin()) {
        WRITE_ONCE(trap->held, 0);
        while (READ_ONCE(control()->closed))
            __builtin_ia32_pause();
        WRITE_ONCE(trap->held, 1);
    }
}

void ak_release(void)
{
    char *window = own_window();
    struct mv_trap *trap = window ? ak_trap(window) : NULL;
    if (!trap || !trap->held)
        return;
    WRITE_ONCE(trap->held, trap->held - 1);
    if (!trap->held && READ_ONCE(trap->attention))
        sys2(MV_NR_AEROKERNEL, MV_AEROKERNEL_HOSTED, 0); // an exit, behind which signals are seen
}

// ---- Calls --------------------------------------------------------------------------------------

// A site whose SYSCALL traps is rewritten when it has been seen often enough; here the ROS does not
// see it. One that cannot be rewritten is not reported again.
static void count_trap(uint64_t site)
{
    enum { COUNTERS = 64, OFTEN = 16, HOPELESS = OFTEN + 1 };
    static struct {
        uint64_t site;
        unsigned traps;
    } counter[COUNTERS];
    unsigned i = (unsigned)(site ^ site >> 6) % COUNTERS;
    if (READ_ONCE(counter[i].site) != site) {
        WRITE_ONCE(counter[i].site, site);
        WRITE_ONCE(counter[i].traps, 0);
    }
    unsigned traps = READ_ONCE(counter[i].traps);
    if (traps == HOPELESS)
        return;
    if (++traps == OFTEN)
        traps = sys2(MV_NR_AEROKERNEL, MV_AEROKERNEL_HOT, site) ? HOPELESS : 0;
    WRITE_ONCE(counter[i].traps, traps);
}

// Wait until an answer may begin; until then the ROS can still have the call begin anew.
static void begin(struct mv_trap *trap)
{
    for (;;) {
        WRITE_ONCE(trap->word.active, MV_TRAP_OVERRIDE);
        if (may_begin())
            return;
        WRITE_ONCE(trap->word.active, MV_TRAP_CALL);
        while (READ_ONCE(control()->closed))
            __builtin_ia32_pause();
    }
}

static unsigned answer(char *window, struct mv_trap *trap, ak_override_call *wrapper)
{
    struct mv_frame *state = &trap->state, *frame = ak_frame(window);
    struct ak_call call = {
        .nr = (uint32_t)state->rax,
        .arg = {state->rdi, state->rsi, state->rdx, state->r10, state->r8, state->r9}};
    begin(trap);
    // A program that is stepped is loaded from outside.
    if (state->rflags & FLAG_TF)
        WRITE_ONCE(trap->attention, 1);
    bool done = wrapper(&call);
    if (trap->site)
        count_trap(trap->site);
    // A call of the module's own has been here.
    frame->rip = state->rip;
    frame->rsp = state->rsp;
    frame->rflags = state->rflags;
    if (done)
        state->rax = (uint64_t)call.result;
    __asm__ volatile("" : : : "memory");
    WRITE_ONCE(trap->word.active, done ? MV_TRAP_DONE : MV_TRAP_CALL);
    return done ? AK_ANSWER_DONE : AK_ANSWER_FORWARD;
}

unsigned ak_on_call(char *window)
{
    struct mv_trap *trap = ak_trap(window);
    uint32_t nr = (uint32_t)trap->state.rax;
    bool waits = READ_ONCE(trap->attention) || trap->state.rflags & FLAG_TF;
    if (nr == __NR_rt_sigreturn)
        return !waits && ak_sigreturn(window) ? AK_ANSWER_FRAME : AK_ANSWER_ROS;
    if (!(control()->route[nr] & MV_ROUTE_MODULE)) {
        bool done = !waits && (nr == __NR_rt_sigprocmask ? ak_sigprocmask(window)
                                                         : ak_set_robust_list(window));
        return done ? AK_ANSWER_FRAME : AK_ANSWER_FORWARD;
    }
    // A module is asked in any case: it has to know of every call.
    return answer(window, trap, ((ak_override_call *const *)AK_OVERRIDES_PAGE)[nr]);
}

// ---- What modules call --------------------------------------------------------------------------

const struct ak_identity *ak_identity(void)
{
    const char *window = own_window();
    return window ? (const struct ak_identity *)(window + AK_IDENTITY_OFFSET) : NULL;
}

uint64_t ak_memory_high(void)
{
    return control()->machine.memory_high;
}

const void *ak_vdso(void)
{
    return (const void *)control()->machine.vdso;
}

uint64_t ak_exit_cycles(void)
{
    return control()->machine.exit_cycles;
}

unsigned ak_cores(void)
{
    return control()->machine.cores;
}

bool ak_unseen_waits(void)
{
    return READ_ONCE(control()->machine.unseen_waits);
}

// But for those that cannot be blocked and those that C libraries use themselves.
#define EVERY_SIGNAL (~(NEVER_BLOCKED | SIGBIT(32) | SIGBIT(33) | SIGBIT(34)))

int64_t ak_signal_mask(int how, const uint64_t *set, uint64_t *old, size_t size)
{
    char *window = own_window();
    if (!window || size != sizeof(ros_sigset) || !READ_ONCE(control()->machine.defers_masks))
        return AK_FALLBACK;
    struct mv_signals *signals = (struct mv_signals *)(window + AK_SIGNALS_OFFSET);
    struct mv_trap *trap = ak_trap(window);
    if (READ_ONCE(signals->pending_sync))
        return AK_FALLBACK;
    ros_sigset partner = signals->mask, sync = trap->word.blocked_sync & ROS_SYNC_SIGNALS;
    ros_sigset before = signals->deferred ? signals->deferred_mask : partner;
    ros_sigset after = before | sync, given;
    if (set && (ak_copy_in(&given, set, sizeof(given)) ||
                !ak_mask_after((int)how, given & ~NEVER_BLOCKED, &after)))
        return AK_FALLBACK;
    ros_sigset native = after & ~ROS_SYNC_SIGNALS;
    // All is blocked for a moment. What is blocked by itself will be waited for, and Linux discards
    // what is ignored and, as it knows, not blocked. Opening a mask lets signals in that wait.
    bool blocks_all = !signals->deferred && !(EVERY_SIGNAL & ~after);
    if (native != partner && native != before && !blocks_all)
        return AK_FALLBACK;
    before |= sync;
    if (old && ak_copy_out(old, &before, sizeof(before)))
        return AK_FALLBACK;
    signals->deferred_mask = native;
    signals->deferred = native != partner;
    WRITE_ONCE(trap->word.blocked_sync, (uint32_t)(after & ROS_SYNC_SIGNALS));
    return 0;
}

// The only accesses that may fail: the ROS goes on at ak_copy_fault then (override.S).
int ak_copy(void *dst, const void *src, size_t size);
int ak_load(uint32_t *dst, const uint32_t *src);

int ak_copy_in(void *dst, const void *program, size_t size)
{
    return range_is_lower_half((uint64_t)program, size) ? ak_copy(dst, program, size) : -EFAULT;
}

int ak_copy_out(void *program, const void *src, size_t size)
{
    return range_is_lower_half((uint64_t)program, size) ? ak_copy(program, src, size) : -EFAULT;
}

int ak_load_in(uint32_t *dst, const uint32_t *program)
{
    return range_is_lower_half((uint64_t)program, sizeof(*dst)) ? ak_load(dst, program) : -EFAULT;
}

bool ak_page_editable(void)
{
    enum { UNUSED = 256 }; // the first entry of the upper half, where nothing is
    struct ak_memory view;
    uint64_t *word = &ak_tables(&view).root[UNUSED], zero = 0;
    return ak_ring() == 0 && !ak_copy(word, &zero, sizeof(zero));
}

int64_t ak_linux(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    return sys6(nr, a, b, c, d, e, f);
}
