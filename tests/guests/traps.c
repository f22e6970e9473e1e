// Proves that ud2, int3, the trap flag and refused instructions raise the right signals at the
// right place, and that execution goes on exactly behind what traps.
#include "guest.h"

static void *expected;
static int skip;
static volatile unsigned steps;

static void handler(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    say("fault", "%s code %d addr %s rip %+lld trap %lld err %llx", sigabbrev_np(sig),
        info->si_code,
        info->si_addr == expected ? "here"
        : info->si_addr           ? "elsewhere"
                                  : "0",
        regs[REG_RIP] - (long long)expected, regs[REG_TRAPNO], regs[REG_ERR]);
    regs[REG_RIP] += skip;
}

static void count(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (info->si_code == TRAP_TRACE)
        steps++;
}

#define TRAP(name, text, bytes)                                                                    \
    do {                                                                                           \
        uint64_t kept = 0x1234;                                                                    \
        skip = bytes;                                                                              \
        __asm__ volatile("lea 1f(%%rip), %%rcx; mov %%rcx, %[e]; 1: " text                         \
                         : [e] "=m"(expected), "+b"(kept)                                          \
                         :                                                                         \
                         : "rcx", "memory");                                                       \
        say(name, "%lx", kept);                                                                    \
    } while (0)

int main(void)
{
    handle(SIGILL, handler, 0);
    handle(SIGTRAP, handler, 0);
    handle(SIGSEGV, handler, 0);
    TRAP("ud2", "ud2", 2);
    TRAP("ud1", ".byte 0x0f, 0xb9, 0xc0", 3);
    TRAP("invalid in 64-bit mode", ".byte 0x06", 1);
    TRAP("lock without memory", ".byte 0xf0, 0x90", 2);
    TRAP("int3", "int3", 0);
    TRAP("int $3", ".byte 0xcd, 0x03", 0);
    TRAP("int $0x21", "int $0x21", 2);
    TRAP("int $4", "int $4", 0);

    handle(SIGTRAP, count, 0);
    uint64_t value = 0;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq;" // the trap takes effect one later
                     "inc %0; inc %0; inc %0; nop; mov %0, %0;"
                     "pushfq; andq $~0x100, (%%rsp); popfq"
                     : "+r"(value)
                     :
                     : "cc", "memory");
    say("value", "%lu", value);
    say("single steps", "%u", steps);
    steps = 0;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq;"
                     "mov $39, %%eax; syscall; nop;"
                     "pushfq; andq $~0x100, (%%rsp); popfq"
                     :
                     :
                     : "rax", "rcx", "r11", "cc", "memory");
    say("single steps over a system call", "%u", steps);
    return 0;
}
