// Proves that integer, SSE and x87 exceptions raise SIGFPE with the right si_code, at the right
// instruction, and that the handler's change of MXCSR or of RIP lets the program go on.
#include "guest.h"

#include <xmmintrin.h>

static void *expected;
static int skip;

static void handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    say("fault", "%s code %d here %s trap %lld err %llx mxcsr %x", sigabbrev_np(sig), info->si_code,
        yes(info->si_addr == expected && (void *)regs[REG_RIP] == expected), regs[REG_TRAPNO],
        regs[REG_ERR], uc->uc_mcontext.fpregs->mxcsr & 0xffff);
    regs[REG_RIP] += skip;
    uc->uc_mcontext.fpregs->mxcsr = 0x1f80;
    uc->uc_mcontext.fpregs->cwd = 0x37f;
    uc->uc_mcontext.fpregs->swd = 0;
}

static void integer(const char *name, int a, int b)
{
    int high = a < 0 ? -1 : 0;
    skip = 2;
    __asm__ volatile("lea 1f(%%rip), %%r8; mov %%r8, %[expected]; 1: idivl %%ecx"
                     : "+a"(a), "+d"(high), [expected] "=m"(expected)
                     : "c"(b)
                     : "r8", "cc", "memory");
    say(name, "%d %d", a, high);
}

static void sse(const char *name, double a, double b, unsigned unmask, char op)
{
    skip = 4; // of the four instructions below
    unsigned mxcsr = 0x1f80 & ~(unmask << 7);
    __asm__ volatile("ldmxcsr %[mxcsr]" : : [mxcsr] "m"(mxcsr));
    register double second __asm__("xmm1") = b;
    register double first __asm__("xmm0") = a;
    switch (op) {
    case '/':
        __asm__ volatile("lea 1f(%%rip), %%r8; mov %%r8, %[e]; 1: divsd %[b], %[a]"
                         : [e] "=m"(expected), [a] "+x"(first)
                         : [b] "x"(second)
                         : "r8", "memory");
        break;
    case '*':
        __asm__ volatile("lea 1f(%%rip), %%r8; mov %%r8, %[e]; 1: mulsd %[b], %[a]"
                         : [e] "=m"(expected), [a] "+x"(first)
                         : [b] "x"(second)
                         : "r8", "memory");
        break;
    default:
        __asm__ volatile("lea 1f(%%rip), %%r8; mov %%r8, %[e]; 1: addsd %[b], %[a]"
                         : [e] "=m"(expected), [a] "+x"(first)
                         : [b] "x"(second)
                         : "r8", "memory");
    }
    say(name, "%g mxcsr %x", first, _mm_getcsr());
}

int main(void)
{
    handle(SIGFPE, handler, 0);
    integer("divide by zero", 7, 0);
    integer("overflow", INT32_MIN, -1);
    integer("fine", 7, 2);
    sse("sse divide by zero", 1, 0, 4, '/');
    sse("sse invalid", 0, 0, 1, '/');
    sse("sse overflow", 1e308, 1e10, 8, '*');
    sse("sse underflow", 1e-308, 1e-10, 16, '*');
    sse("sse inexact", 1, 1e-20, 32, '+');
    sse("sse denormal", 1, 5e-324, 2, '+');
    sse("sse masked", 1, 0, 0, '/');

    // x87 raises at the next waiting instruction.
    uint16_t control = 0x37f & ~4;
    skip = 1;
    __asm__ volatile("fninit; fldcw %[control]; fld1; fldz; fdivrp;"
                     "lea 1f(%%rip), %%r8; mov %%r8, %[expected]; 1: fwait; fninit"
                     : [expected] "=m"(expected)
                     : [control] "m"(control)
                     : "r8", "memory");
    // si_addr is that of the division itself, which Linux takes from the x87 state.
    say("x87", "done");
    return 0;
}
