// Does what a program at ring 0 may try, and shows whether it is well afterwards. Argument: what.
#include "../guests/guest.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define CR0_EM (1UL << 2)
#define CR0_TS (1UL << 3)
#define CR0_WP (1UL << 16)
#define CR0_PG (1UL << 31)
#define CR4_PAE (1UL << 5)
#define CR4_LA57 (1UL << 12)
#define FLAG_NT (1UL << 14)
#define FLAG_VM (1UL << 17)
#define FLAGS 0x202UL
#define USER_CS 0x33UL
#define USER_SS 0x2bUL
#define ABSENT 0xf8UL // beyond the table
#define NO_ADDRESS (1UL << 62)

static char stack[64 * PAGE] __attribute__((aligned(16)));
static const struct timespec moment = {.tv_nsec = 1};

// A system-call site that is hot and may also make calls that wait.
static void make_calls(void)
{
    for (int i = 0; i < 5000; i++)
        syscall(SYS_getppid);
}

static void show(void)
{
    unsigned cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    syscall(SYS_nanosleep, &moment, NULL);
    make_calls();
    volatile double half = 1;
    half = half / 2;
    volatile char *memory =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory[0] = 1;
    int status = -1;
    pid_t pid = fork();
    if (!pid)
        _exit(7);
    waitpid(pid, &status, 0);
    printf("CPL %u, %.1f, child %d\n", cs & 3, half, WEXITSTATUS(status));
    fflush(stdout);
    _exit(0);
}

static void iret(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t ss)
{
    uint64_t rsp = (uint64_t)stack + sizeof(stack) - 8;
    uint64_t frame[5] = {rip, cs, flags, rsp, ss};
    make_calls();
    __asm__ volatile("mov %0, %%rsp; iretq" : : "r"(frame) : "memory");
}

// To UD2 at an address that 32 bits can name, by a code segment of 32 bits.
static void iret_to_compatibility_mode(void)
{
    static uint64_t gdt[32];
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } table;
    __asm__ volatile("sgdt %0" : "=m"(table));
    memcpy(gdt, (void *)table.base, table.limit + 1UL);
    gdt[30] = 0x00cf9b000000ffff;
    gdt[31] = 0x00cf93000000ffff;
    table.base = (uint64_t)gdt;
    table.limit = sizeof(gdt) - 1;
    uint8_t *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    memcpy(code, "\x0f\x0b", 2);
    uint64_t frame[5] = {(uint64_t)code, 30 * 8, FLAGS, (uint64_t)code + PAGE, 31 * 8};
    __asm__ volatile("lgdt %1; mov %0, %%rsp; iretq" : : "r"(frame), "m"(table) : "memory");
}

static void change_cr0(uint64_t clear, uint64_t set)
{
    uint64_t cr0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %0, %%cr0" : : "r"((cr0 & ~clear) | set) : "memory");
}

static void change_cr4(uint64_t clear, uint64_t set)
{
    uint64_t cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"((cr4 & ~clear) | set) : "memory");
}

static void watch_a_write(void)
{
    static volatile uint32_t watched;
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(&watched), "r"(0xd0002UL));
    watched = 1;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint64_t cs, ss, here = (uint64_t)show;
    __asm__("mov %%cs, %0; mov %%ss, %1" : "=r"(cs), "=r"(ss));
    if (strcmp(what, "IRET to zeros") == 0)
        iret(0, 0, 0, 0);
    else if (strcmp(what, "IRET without CS") == 0)
        iret(here, 0, FLAGS, ss);
    else if (strcmp(what, "IRET without SS") == 0)
        iret(here, cs, FLAGS, 0);
    else if (strcmp(what, "IRET to no address") == 0)
        iret(NO_ADDRESS, cs, FLAGS, ss);
    else if (strcmp(what, "IRET to an absent CS") == 0)
        iret(here, ABSENT, FLAGS, ss);
    else if (strcmp(what, "IRET of a nested task") == 0) {
        __asm__ volatile("pushfq; orq %0, (%%rsp); popfq" : : "r"(FLAG_NT) : "memory", "cc");
        iret(here, cs, FLAGS, ss);
    } else if (strcmp(what, "IRET to virtual 8086 mode") == 0)
        iret(here, cs, FLAGS | FLAG_VM, ss);
    else if (strcmp(what, "IRET to CPL 3") == 0)
        iret(here, USER_CS, FLAGS, USER_SS);
    else if (strcmp(what, "IRET to CPL 3 without SS") == 0)
        iret(here, USER_CS, FLAGS, 0);
    else if (strcmp(what, "IRET to compatibility mode") == 0)
        iret_to_compatibility_mode();
    else if (strcmp(what, "CR0.WP off") == 0)
        change_cr0(CR0_WP, 0);
    else if (strcmp(what, "CR0.TS on") == 0)
        change_cr0(0, CR0_TS);
    else if (strcmp(what, "CR0.EM on") == 0)
        change_cr0(0, CR0_EM);
    else if (strcmp(what, "CR0.PG off") == 0)
        change_cr0(CR0_PG, 0);
    else if (strcmp(what, "CR4.PAE off") == 0)
        change_cr4(CR4_PAE, 0);
    else if (strcmp(what, "CR4.LA57 on") == 0)
        change_cr4(0, CR4_LA57);
    else if (strcmp(what, "a watchpoint") == 0)
        watch_a_write();
    show();
}
