// Proves what a system call instruction leaves of the registers: all general ones but RAX, RCX and
// R11 kept, RCX the next instruction, R11 the flags, the red zone untouched, the direction and
// other flags kept; and that wrong system call numbers and pointers give errors, nothing else.
#include "guest.h"

#include <sys/syscall.h>

struct registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, flags;
    uint64_t next, red_zone;
};

void raw(struct registers *registers);
// Load everything from *rdi, fill the red zone, SYSCALL, store everything back.
__asm__(".text\nraw:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
        "mov %rdi, saved(%rip); mov %rdi, %r15\n"
        "push 128(%r15); popfq\n" // flags
        "mov 8(%r15), %rbx; mov 24(%r15), %rdx; mov 32(%r15), %rsi; mov 48(%r15), %rbp\n"
        "mov 64(%r15), %r8; mov 72(%r15), %r9; mov 80(%r15), %r10; mov 96(%r15), %r12\n"
        "mov 104(%r15), %r13; mov 112(%r15), %r14; mov 40(%r15), %rdi; mov (%r15), %rax\n"
        "mov 120(%r15), %r15\n"
        "movq $0x1111, -8(%rsp); movq $0x2222, -64(%rsp); movq $0x3333, -128(%rsp)\n"
        "syscall\n"
        "after: movq %r15, kept(%rip); mov saved(%rip), %r15\n"
        "mov %rax, (%r15); mov %rbx, 8(%r15); mov %rcx, 16(%r15); mov %rdx, 24(%r15)\n"
        "mov %rsi, 32(%r15); mov %rdi, 40(%r15); mov %rbp, 48(%r15); mov %rsp, 56(%r15)\n"
        "mov %r8, 64(%r15); mov %r9, 72(%r15); mov %r10, 80(%r15); mov %r11, 88(%r15)\n"
        "mov %r12, 96(%r15); mov %r13, 104(%r15); mov %r14, 112(%r15)\n"
        "lea after(%rip), %rcx; mov %rcx, 136(%r15)\n"
        "mov -8(%rsp), %rcx; mov %rcx, 144(%r15); mov -64(%rsp), %rcx; add %rcx, 144(%r15)\n"
        "mov -128(%rsp), %rcx; add %rcx, 144(%r15)\n"
        "mov kept(%rip), %rcx; mov %rcx, 120(%r15)\n"
        "pushfq; pop 128(%r15); cld\n"
        "pop %rdi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
        ".local saved; .comm saved,8,8; .local kept; .comm kept,8,8\n");

static void try(const char *name, uint64_t number, uint64_t flags)
{
    struct registers before, r;
    for (unsigned i = 0; i < sizeof(r) / 8; i++)
        ((uint64_t *)&before)[i] = 0x0101010101010101 * (i + 1);
    before.rax = number;
    before.rdi = before.rsi = before.rdx = before.r10 = 0;
    before.flags = flags;
    r = before;
    raw(&r);
    bool kept = r.rbx == before.rbx && r.rdx == before.rdx && r.rsi == before.rsi &&
                r.rdi == before.rdi && r.rbp == before.rbp && r.r8 == before.r8 &&
                r.r9 == before.r9 && r.r10 == before.r10 && r.r12 == before.r12 &&
                r.r13 == before.r13 && r.r14 == before.r14 && r.r15 == before.r15;
    // Arithmetic flags may have been touched by `add` above: only what it leaves alone.
    uint64_t compared = 0x40600 | 0x200000;
    say(name, "kept %s rcx %s r11 %lx flags %lx red zone %lx result %s", yes(kept),
        yes(r.rcx == r.next), r.r11, r.flags & compared, r.red_zone,
        (int64_t)r.rax < 0 ? error_name(-(int)r.rax) : "ok");
}

int main(void)
{
    try("getppid", SYS_getppid, 0x246);
    try("flags set", SYS_getppid, 0xcd7);
    try("direction", SYS_getuid, 0x602);
    try("identification flag", SYS_getgid, 0x200202);
    try("unknown number", 5000, 0x202);
    try("largest number", ~0ULL, 0x202);
    try("with high bits", 1ULL << 32 | SYS_getuid, 0x202);
    try("x32 number", 0x40000000 | SYS_getuid, 0x202);
    try("bad pointer", SYS_uname, 0x202);
    try("yield", SYS_sched_yield, 0x202);
    try("read nothing", SYS_read, 0x202);
    try("pause-like poll", SYS_poll, 0x202);
    say("errors", "%s", outcome(syscall(SYS_write, 1, (void *)-1L, 10)));
    say("kernel pointer", "%s", outcome(syscall(SYS_write, 1, (void *)0xffffffff81000000, 10)));
    return 0;
}
