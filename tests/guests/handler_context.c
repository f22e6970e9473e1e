// Proves that a handler on the alternate stack sees the interrupted state in its ucontext and that
// what it writes there (RIP, RAX, XMM0, the signal mask) is what the program goes on with.
#include "guest.h"

static char altstack[65536];
static volatile int step;

static void handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *regs = uc->uc_mcontext.gregs;
    char here;
    stack_t current;
    NEED(sigaltstack(NULL, &current) == 0);
    say("signal", "%s code %d", sigabbrev_np(sig), info->si_code);
    say("on alternate stack", "%s", yes(&here >= altstack && &here < altstack + sizeof(altstack)));
    say("sigaltstack says", "%d", current.ss_flags);
    say("uc_stack is it", "%s", yes(uc->uc_stack.ss_sp == altstack));
    say("registers seen", "rax %llx rbx %llx r15 %llx", regs[REG_RAX], regs[REG_RBX],
        regs[REG_R15]);
    say("segments", "%llx", regs[REG_CSGSFS] & 0xffff);
    if (step == 0) {
        regs[REG_RIP] += 2; // past ud2
    } else {
        regs[REG_RIP] += 3; // past mov (%rdi),%rax, as an emulator of the access would
        regs[REG_RAX] = 0x1122334455667788;
        regs[REG_R15] = 0x99;
        uc->uc_mcontext.fpregs->_xmm[0].element[0] = 0xabcd;
        sigaddset(&uc->uc_sigmask, SIGUSR2);
    }
    step++;
}

int main(void)
{
    stack_t stack = {.ss_sp = altstack, .ss_size = sizeof(altstack)};
    NEED(sigaltstack(&stack, NULL) == 0);
    handle(SIGILL, handler, SA_ONSTACK);
    handle(SIGSEGV, handler, SA_ONSTACK);

    uint64_t rax = 0x77, rbx = 0x88, r15 = 0x55;
    __asm__ volatile("mov %[r15], %%r15; ud2; mov %%r15, %[r15]"
                     : "+a"(rax), "+b"(rbx), [r15] "+m"(r15)
                     :
                     : "r15", "memory");
    say("after skipped ud2", "rax %lx rbx %lx r15 %lx", rax, rbx, r15);

    uint32_t xmm;
    __asm__ volatile("mov %[r15], %%r15; xorps %%xmm0, %%xmm0; mov (%%rdi), %%rax;"
                     "mov %%r15, %[r15]; movd %%xmm0, %[xmm]"
                     : "+a"(rax), "+b"(rbx), [r15] "+m"(r15), [xmm] "=r"(xmm)
                     : "D"(8)
                     : "r15", "xmm0", "memory");
    say("after emulated load", "rax %lx rbx %lx r15 %lx xmm0 %x", rax, rbx, r15, xmm);

    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    say("USR2 blocked by the handler", "%s", yes(sigismember(&mask, SIGUSR2)));
    say("SEGV left unblocked", "%s", yes(!sigismember(&mask, SIGSEGV)));
    NEED(sigaltstack(NULL, &stack) == 0);
    say("flags outside", "%d", stack.ss_flags);
    return 0;
}
