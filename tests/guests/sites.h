// Code that makes system calls many times from the same place, as all guests of this kind write it.
#ifndef SITES_H
#define SITES_H

#include "guest.h"

#include <sys/mman.h>
#include <sys/syscall.h>

enum { HOT = 200, AREA = 1 << 20 };

struct pair {
    long result, flags;
};
typedef struct pair code(long argument);

static char *area;
static long parent;

// Never the same again, so that nothing is known about its addresses.
static char *new_area(void)
{
    char *at = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(at != MAP_FAILED);
    memset(at, 0xcc, AREA);
    return at;
}

static void seal(char *at)
{
    NEED(mprotect(at, AREA, PROT_READ | PROT_EXEC) == 0);
}

// What may follow SYSCALL: its bytes, and the flags that are left (arithmetic ones; -1: any).
static const struct shape {
    const char *name, *bytes;
    int length;
} shapes[] = {
    {"cmp $imm32, %rax", "\x48\x3d\x01\xf0\xff\xff", 6},
    {"cmp $imm32, %eax", "\x3d\x01\xf0\xff\xff", 5},
    {"cmp $imm8, %rax", "\x48\x83\xf8\xff", 4},
    {"cmp $imm8, %eax", "\x83\xf8\x05", 3},
    {"test %rax, %rax", "\x48\x85\xc0", 3},
    {"mov %rax, %rcx", "\x48\x89\xc1", 3},
    {"mov %rax, %r8", "\x49\x89\xc0", 3},
    {"mov %rsp, %rcx", "\x48\x89\xe1", 3},
    {"mov %rcx, %r11", "\x49\x89\xcb", 3},
    {"mov %eax, %ecx", "\x89\xc1", 2},
    {"lea 0(%rip), %rcx", "\x48\x8d\x0d\x00\x00\x00\x00", 7},
    {"add %eax, %ecx", "\x01\xc1", 2},
    {"nop", "\x90", 1},
    {"jmp behind", "\xeb\x00", 2},
    {"nothing", "", 0},
};

// mov $getppid, %eax; or %eax, %eax; syscall; SHAPE; pushfq; pop %rdx; ret. Returns its end.
static char *emit(char *at, const struct shape *shape, char **behind)
{
    memcpy(at, "\xb8\x6e\x00\x00\x00\x09\xc0\x0f\x05", 9);
    if (behind)
        *behind = at + 9;
    memcpy(at + 9, shape->bytes, (size_t)shape->length);
    memcpy(at + 9 + shape->length, "\x9c\x5a\xc3", 3);
    return at + 12 + shape->length;
}

enum { ARITHMETIC = 0x8d5 };

static unsigned long run(char *at, int count)
{
    unsigned long wrong = 0;
    struct pair first = ((code *)at)(0);
    wrong += first.result != parent;
    for (int i = 1; i < count; i++) {
        struct pair now = ((code *)at)(0);
        wrong += now.result != parent || ((now.flags ^ first.flags) & ARITHMETIC);
    }
    return wrong;
}

// All shapes, one a line of the cache.
static unsigned long run_all(char *at)
{
    unsigned long wrong = 0;
    for (unsigned i = 0; i < COUNT(shapes); i++)
        wrong += run(at + 64 * i, HOT);
    return wrong;
}

struct trial {
    const char *name;
    void (*run)(void);
    bool asked; // runs only when it is named
};

// Each trial in a process of its own, or the one that the first argument names in this one.
static int run_trials(const struct trial *trials, unsigned count, int argc, char **argv)
{
    parent = getppid();
    for (unsigned i = 0; i < count; i++) {
        if (argc > 1 ? strcmp(argv[1], trials[i].name) != 0 : trials[i].asked)
            continue;
        pid_t child = argc > 1 ? 0 : fork();
        NEED(child >= 0);
        if (child == 0) {
            if (argc == 1)
                parent = getppid();
            for (int j = 0; j < 3000; j++)
                getppid(); // so that whoever answers calls is awake
            trials[i].run();
            _exit(0);
        }
        wait_and_say(trials[i].name, child);
    }
    return 0;
}

#endif
