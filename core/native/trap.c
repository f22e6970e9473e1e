// What becomes of an exception: a fault handler's call, or the end with a report.

#include "base/format.h"
#include "native/native.h"

enum { VECTOR_NMI = 2, VECTOR_UD = 6, VECTOR_PF = 14, FIRST_INTERRUPT = 32 };
#define ERROR_WRITE 2ULL

_Static_assert(offsetof(struct ak_trap_frame, rsp) == 168, "vectors.S");

#define WORD(x) ((unsigned long)(x))

static void state_from_trap(struct mv_frame *s, const struct ak_trap_frame *t)
{
    s->r15 = t->r15, s->r14 = t->r14, s->r13 = t->r13, s->r12 = t->r12;
    s->rbp = t->rbp, s->rbx = t->rbx, s->r11 = t->r11, s->r10 = t->r10;
    s->r9 = t->r9, s->r8 = t->r8, s->rax = t->rax, s->rcx = t->rcx;
    s->rdx = t->rdx, s->rsi = t->rsi, s->rdi = t->rdi;
    s->rip = t->rip, s->rflags = t->rflags, s->rsp = t->rsp;
}

// Where SYSCALL leads on a virtual CPU that has it.
extern const char ak_no_system_call[];
enum { SYSCALL_BYTES = 2 };

// A handler's call needs no more than these.
static void enter_upcall(struct ak_trap_frame *t, const struct mv_frame *s)
{
    t->rdi = s->rdi, t->rip = s->rip, t->rsp = s->rsp, t->rflags = s->rflags;
}

// The page below a stack.
static bool is_guard(uint64_t address)
{
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    uint64_t entry;
    return address - view.gpa < view.size && ak_leaf(&paging, address, &entry) &&
           !(entry & AK_PTE_PRESENT);
}

// The first virtual CPU to report ends all.
_Noreturn static void report(const struct ak_trap_frame *t, uint64_t window)
{
    static char text[1024];
    static uint64_t reporting; // window of the one that does
    uint64_t nobody = 0;
    while (!__atomic_compare_exchange_n(&reporting, &nobody, window, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE) &&
           nobody != window)
        nobody = 0;
    __asm__ volatile("wrgsbase %0" : : "r"(window)); // whatever the program has made of it
    unsigned cpu = (unsigned)((window - AK_WINDOWS) / AK_WINDOW_STRIDE);
    bool overrun = t->vector == VECTOR_PF && is_guard(t->cr2);
    bool page_fault = t->vector == VECTOR_PF;
    size_t len = mv_format(
        text, sizeof(text),
        "what=%s cpu=%u vector=%lu error=%lx%s%lx rip=%lx rsp=%lx rflags=%lx rax=%lx rbx=%lx "
        "rcx=%lx rdx=%lx rsi=%lx rdi=%lx rbp=%lx r8=%lx r9=%lx r10=%lx r11=%lx r12=%lx r13=%lx "
        "r14=%lx r15=%lx",
        overrun ? "overrun" : "fault", cpu, WORD(t->vector), WORD(t->error),
        page_fault ? " address=" : " cr2=", WORD(t->cr2), WORD(t->rip), WORD(t->rsp),
        WORD(t->rflags), WORD(t->rax), WORD(t->rbx), WORD(t->rcx), WORD(t->rdx), WORD(t->rsi),
        WORD(t->rdi), WORD(t->rbp), WORD(t->r8), WORD(t->r9), WORD(t->r10), WORD(t->r11),
        WORD(t->r12), WORD(t->r13), WORD(t->r14), WORD(t->r15));
    ak_native_end(overrun ? MV_STATUS_OVERRUN : MV_STATUS_FAULT, text, len);
}

// On the AeroKernel's stack of the window.
void ak_native_trap(struct ak_trap_frame *trap, char *window);
void ak_native_trap(struct ak_trap_frame *trap, char *window)
{
    bool write = trap->error & ERROR_WRITE;
    struct mv_frame state;
    if ((trap->vector == VECTOR_NMI || trap->vector >= FIRST_INTERRUPT) &&
        ak_pc_interrupt((unsigned)trap->vector))
        return;
    if (ak_boot->ring) // a software KVM may believe in the selector that SYSEXIT has set
        trap->ss = AK_USER_SS;
    if (trap->vector == VECTOR_UD && trap->rip == (uint64_t)ak_no_system_call)
        trap->rip = trap->rcx - SYSCALL_BYTES;
    if (trap->vector == VECTOR_PF) {
        state_from_trap(&state, trap);
        enum ak_range_fault found = ak_range_fault(window, &state, trap->cr2, write);
        if (found == AK_FAULT_UPCALL)
            enter_upcall(trap, &state);
        if (found != AK_FAULT_OTHER)
            return;
    }
    report(trap, (uint64_t)window);
}
