// What a program may do at ring 0 that Linux forbids it, and that it is none the worse for it:
// after each of these, system calls, faults and signals work as before.
#include "../guests/guest.h"

static volatile int came;

static void count(int sig, siginfo_t *info, void *context)
{
    (void)info;
    if (sig == SIGSEGV)
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; // MOV (%rax), %eax
    came++;
}

static void still_well(const char *after)
{
    int before = came;
    __asm__ volatile("mov (%0), %%eax" : : "a"(8L) : "memory");
    raise(SIGUSR1);
    say(after, "%s", yes(getppid() > 0 && came == before + 2));
}

int main(void)
{
    handle(SIGSEGV, count, 0);
    handle(SIGUSR1, count, 0);
    unsigned cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    say("privilege level", "%u", cs & 3);
    uint64_t cr0, cr3, cr4, flags;
    __asm__ volatile("mov %%cr0, %0; mov %%cr3, %1; mov %%cr4, %2"
                     : "=r"(cr0), "=r"(cr3), "=r"(cr4));
    say("paging, write protection", "%s", yes(cr0 >> 31 & cr0 >> 16 & 1));
    say("tables", "%s", yes(cr3 != 0));
    unsigned low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xc0000080));
    say("long mode", "%s", yes(low >> 10 & 1));
    __asm__ volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
    still_well("well after loading CR3");
    __asm__ volatile("cli; pushfq; pop %0" : "=r"(flags));
    say("interrupts off", "%s", yes(!(flags & 0x200)));
    getppid();
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    say("and on after a call", "%s", yes(flags & 0x200));
    __asm__ volatile("cli; hlt; sti; hlt");
    still_well("well after halting");
    unsigned char byte = 0;
    __asm__ volatile("in %%dx, %%al; out %%al, %%dx" : "+a"(byte) : "d"(0x3f8));
    still_well("well after ports");
    return 0;
}
