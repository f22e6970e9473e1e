// A random walk of the break: what is new is zero, what is kept has its value, refusals are
// Linux's.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 6000, STEPS = 600 };

static unsigned seed = 7;
static unsigned value[PAGES];
static char *start;
static unsigned pages;

static unsigned number(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % below;
}

static char *move(char *to)
{
    return (char *)syscall(SYS_brk, to);
}

static void fail(const char *what, unsigned page)
{
    dprintf(1, "%s, page %u of %u\n", what, page, pages);
    _exit(1);
}

static void verify(unsigned from)
{
    for (unsigned i = from; i < pages; i++)
        for (unsigned at = 0; at < PAGE; at += PAGE / 2)
            if (*(volatile unsigned *)(start + (size_t)i * PAGE + at) != (at ? 0 : value[i]))
                fail("another value", i);
}

static void walk(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++) {
        unsigned to = number(3) ? pages + number(64) : number(PAGES), before = pages;
        to = to < PAGES ? to : PAGES - 1;
        if (move(start + (size_t)to * PAGE) != start + (size_t)to * PAGE)
            fail("brk", to);
        pages = to;
        for (unsigned i = before; i < pages; i++)
            value[i] = 0;
        verify(before < pages ? before : 0);
        for (unsigned i = number(4); i < pages; i += 1 + number(9))
            *(unsigned *)(start + (size_t)i * PAGE) = value[i] = number(1u << 30);
    }
    verify(0);
}

int main(void)
{
    char *first = move(NULL);
    start = (char *)(((uintptr_t)first + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    if (move(start) != start)
        fail("brk", 0);
    walk(STEPS);
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        walk(STEPS / 10);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status)
        fail("child", 0);
    verify(0);
    char *now = move(NULL);
    printf("refused %d\n", move((char *)PAGE) == now && move(NULL) == now);
    fflush(stdout);
    // Mapped otherwise: Linux's alone from now on.
    if (pages < 8 && move(start + 8 * PAGE))
        pages = 8;
    mprotect(start + 4 * PAGE, PAGE, PROT_READ);
    verify(0);
    mprotect(start + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    walk(STEPS / 10);
    puts("right");
    return 0;
}
