// Proves that bad accesses raise SIGSEGV/SIGBUS with exactly Linux's si_code, si_addr, trap number,
// error code and CR2: what garbage collectors, null checks and safepoints of runtimes rely on.
#include "guest.h"

#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf env;
static char altstack[65536];
static char *base; // six pages: rw, none, ro, rw, unmapped, rw
static const char *current;

static void print_address(char *text, size_t size, uint64_t address)
{
    if (address - (uint64_t)base < 6 * PAGE)
        snprintf(text, size, "base+0x%lx", address - (uint64_t)base);
    else
        snprintf(text, size, "0x%lx", address);
}

static void handler(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    char address[40], cr2[40] = "-";
    print_address(address, sizeof(address), (uint64_t)info->si_addr);
    if (regs[REG_TRAPNO] == 14) // otherwise CR2 is whatever fault came last
        print_address(cr2, sizeof(cr2), regs[REG_CR2]);
    say(current, "%s code %d addr %s trap %lld err %llx cr2 %s", sigabbrev_np(sig), info->si_code,
        address, regs[REG_TRAPNO], regs[REG_ERR], cr2);
    siglongjmp(env, 1);
}

#define TRY(what, ...)                                                                             \
    do {                                                                                           \
        current = what;                                                                            \
        if (sigsetjmp(env, 1) == 0) {                                                              \
            __VA_ARGS__;                                                                           \
            say(current, "no fault");                                                              \
        }                                                                                          \
    } while (0)

static void read1(uint64_t at)
{
    __asm__ volatile("movb (%0), %%al" : : "r"(at) : "rax", "memory");
}

static void read8(uint64_t at)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(at) : "rax", "memory");
}

static void write4(uint64_t at)
{
    __asm__ volatile("movl $1, (%0)" : : "r"(at) : "memory");
}

static void add8(uint64_t at)
{
    __asm__ volatile("lock addq $1, (%0)" : : "r"(at) : "memory");
}

static void read16(uint64_t at)
{
    __asm__ volatile("movups (%0), %%xmm0" : : "r"(at) : "xmm0", "memory");
}

static void aligned16(uint64_t at)
{
    __asm__ volatile("movaps (%0), %%xmm0" : : "r"(at) : "xmm0", "memory");
}

static void fill(uint64_t at, uint64_t size)
{
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(0) : "memory");
}

static void push_at(uint64_t at)
{
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp"
                     :
                     : "r"(at)
                     : "rbx", "memory");
}

static void execute(uint64_t at)
{
    ((void (*)(void))at)();
}

int main(void)
{
    stack_t stack = {.ss_sp = altstack, .ss_size = sizeof(altstack)};
    NEED(sigaltstack(&stack, NULL) == 0);
    handle(SIGSEGV, handler, SA_ONSTACK);
    handle(SIGBUS, handler, SA_ONSTACK);
    base = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(base != MAP_FAILED);
    memset(base, 0xc3, 6 * PAGE); // ret
    NEED(mprotect(base + PAGE, PAGE, PROT_NONE) == 0);
    NEED(mprotect(base + 2 * PAGE, PAGE, PROT_READ) == 0);
    NEED(munmap(base + 4 * PAGE, PAGE) == 0);
    uint64_t none = (uint64_t)base + PAGE, ro = none + PAGE, unmapped = none + 3 * PAGE;

    TRY("read unmapped", read8(unmapped));
    TRY("read unmapped misaligned", read1(unmapped + 0x123));
    TRY("write unmapped", write4(unmapped + 0xffc));
    TRY("add unmapped", add8(unmapped + 0x10));
    TRY("read none", read8(none + 0xff8));
    TRY("read none odd", read1(none + 1));
    TRY("write none", write4(none + 0x7f4));
    TRY("write read-only", write4(ro + 0x204));
    TRY("add read-only", add8(ro + 8));
    TRY("read read-only", read8(ro + 0x200));
    TRY("read crossing into none", read8(none - 3));
    TRY("read crossing out of none", read8(none + 0xffd));
    TRY("read crossing into unmapped", read16(unmapped - 5));
    TRY("write crossing read-only into rw", write4(ro + 0xffe));
    TRY("fill into none", fill(none - 100, 200));
    TRY("fill over read-only and into unmapped", fill(ro + 0x1000, 0x2000));
    TRY("movaps misaligned", aligned16((uint64_t)base + 8));
    TRY("execute unmapped", execute(unmapped + 0x20));
    TRY("execute none", execute(none + 0x21));
    TRY("execute read-only", execute(ro + 0x22));
    TRY("execute rw", execute((uint64_t)base + 0x23));
    TRY("null read", read8(0));
    TRY("null field", read8(0x18));
    TRY("null write", write4(0));
    TRY("null call", execute(0));
    TRY("low page end", read8(0xff8));
    TRY("kernel read", read8(0xffff800000000000));
    TRY("kernel read high", read8(0xfffffffffffff000));
    TRY("kernel write", write4(0xffffffff81000000));
    TRY("kernel execute", execute(0xffffffff81000000));
    TRY("last address", read8(0xffffffffffffffff));
    TRY("top of user space", read8(0x7ffffffff000));
    TRY("into non-canonical", read8(0x7ffffffffffc));
    TRY("non-canonical read", read8(0x8000000000000000));
    TRY("non-canonical low read", read8(0x0000800000000000));
    TRY("non-canonical write", write4(0xdeadbeefdeadbeef));
    TRY("stack pointer in none", push_at(none + 0x800));
    TRY("stack pointer non-canonical", push_at(0x0001000000000000));
    // The same again once the page is back: nothing stale is left.
    NEED(mprotect(base + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    TRY("read former none", read8(none));
    NEED(mprotect(base + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    TRY("write former read-only", write4(ro));
    NEED(munmap(base, PAGE) == 0);
    TRY("read former rw", read8((uint64_t)base + 0x40));
    return 0;
}
