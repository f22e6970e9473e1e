// Proves, where the program runs at ring 3, that privileged instructions and accesses to kernel
// memory raise SIGSEGV, that a set AC flag makes misaligned accesses raise SIGBUS, and that the
// selectors are a user's. (At ring 0 an HRT is allowed all of this: guests_ring0/privileges.c.)
#include "guest.h"

static int skip;

static void handler(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    say("  raised", "%s code %d addr %s trap %lld err %llx", sigabbrev_np(sig), info->si_code,
        info->si_addr ? "set" : "0", regs[REG_TRAPNO], regs[REG_ERR]);
    regs[REG_RIP] += skip;
    regs[REG_EFL] &= ~0x40000;
}

#define TRY(text, bytes)                                                                           \
    do {                                                                                           \
        say("try", "%s", text);                                                                    \
        skip = bytes;                                                                              \
        __asm__ volatile(text : : "a"(0), "c"(0x10), "d"(0x3f8) : "memory");                       \
    } while (0)

int main(void)
{
    handle(SIGSEGV, handler, 0);
    handle(SIGBUS, handler, 0);
    handle(SIGILL, handler, 0);
    TRY("hlt", 1);
    TRY("cli", 1);
    TRY("sti", 1);
    TRY("in %%dx, %%al", 1);
    TRY("out %%al, %%dx", 1);
    TRY("rdmsr", 2);
    TRY("mov %%cr0, %%rax", 3);
    TRY("mov %%rax, %%cr3", 3);
    TRY("invd", 2);
    TRY("ltr %%ax", 3);
    TRY("movabs 0xffffffff80000010, %%al", 9);
    // Where the AeroKernel has its tables.
    TRY("movabs %%al, 0xffffffff80203000", 9);
    TRY("movabs %%al, 0xffffffff88000000", 9);
    unsigned cs, ss;
    __asm__ volatile("mov %%cs, %0; mov %%ss, %1" : "=r"(cs), "=r"(ss));
    say("selectors", "%x %x", cs, ss);
    char bytes[16] = {0};
    say("try", "misaligned with AC");
    skip = 2;
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; mov (%0), %%eax;"
                     "pushfq; andq $~0x40000, (%%rsp); popfq"
                     :
                     : "r"(bytes + 1)
                     : "rax", "cc", "memory");
    return 0;
}
