// A random walk through mappings beside a model of them: every page has what was last written
// there, or zero, and accesses to what cannot be accessed fault.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, BLOCKS = 24, PAGES_MAX = 700, STEPS = 4000 };

static struct block {
    char *at;
    int pages;
    unsigned value[PAGES_MAX]; // by page: its first word
    int readable[PAGES_MAX];
    int changed; // may be more than one mapping of Linux's
} blocks[BLOCKS];

static unsigned seed = 1;
static sigjmp_buf back;

static unsigned number(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % below;
}

static void on_fault(int sig)
{
    (void)sig;
    siglongjmp(back, 1);
}

static void fail(const char *what)
{
    printf("%s\n", what);
    exit(1);
}

static void verify(const struct block *block)
{
    for (int i = 0; i < block->pages; i++) {
        volatile int faults = 1;
        if (!sigsetjmp(back, 1)) {
            unsigned value = *(volatile unsigned *)(block->at + (size_t)i * PAGE);
            faults = 0;
            if (value != block->value[i])
                fail("another value");
        }
        if (faults == block->readable[i])
            fail(faults ? "a fault" : "no fault");
    }
}

static void write_some(struct block *block)
{
    for (int i = number(3); i < block->pages; i += 1 + (int)number(5))
        if (block->readable[i])
            *(unsigned *)(block->at + (size_t)i * PAGE) = block->value[i] = number(1u << 30);
}

static void map(struct block *block)
{
    block->pages = 1 + (int)number(number(4) ? 40 : PAGES_MAX - 1);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (number(5) ? 0 : MAP_32BIT);
    block->at = mmap(NULL, (size_t)block->pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (block->at == MAP_FAILED)
        fail("mmap");
    block->changed = 0;
    for (int i = 0; i < block->pages; i++)
        block->value[i] = 0, block->readable[i] = 1;
    for (size_t i = 0; i < (size_t)block->pages * PAGE; i += 512)
        if (block->at[i])
            fail("not zero");
}

static void unmap(struct block *block, int pages)
{
    size_t left = (size_t)(block->pages - pages) * PAGE;
    if (pages && munmap(block->at + left, (size_t)pages * PAGE))
        fail("munmap");
    block->pages -= pages;
}

static void remap(struct block *block)
{
    int pages = 1 + (int)number(PAGES_MAX - 1), flags = number(2) ? MREMAP_MAYMOVE : 0;
    if (block->changed)
        return;
    char *at = mremap(block->at, (size_t)block->pages * PAGE, (size_t)pages * PAGE, flags);
    if (at == MAP_FAILED && (flags || pages <= block->pages))
        fail("mremap");
    if (at == MAP_FAILED)
        return;
    block->at = at;
    for (int i = block->pages; i < pages; i++)
        block->value[i] = 0, block->readable[i] = 1;
    block->pages = pages;
}

static void change(struct block *block)
{
    int first = (int)number((unsigned)block->pages), count = 1 + (int)number(8);
    if (first + count > block->pages)
        count = block->pages - first;
    char *at = block->at + (size_t)first * PAGE;
    size_t size = (size_t)count * PAGE;
    int how = (int)number(4), readable = how != 0;
    block->changed |= how != 2;
    if (how <= 1 && mprotect(at, size, how ? PROT_READ | PROT_WRITE : PROT_NONE))
        fail("mprotect");
    if (how == 2 && madvise(at, size, MADV_DONTNEED))
        fail("madvise");
    if (how == 3 && mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                         -1, 0) != at)
        fail("mmap, fixed");
    for (int i = first; i < first + count; i++) {
        block->value[i] = how >= 2 ? 0 : block->value[i];
        block->readable[i] = how == 2 ? block->readable[i] : readable;
    }
}

static void in_child(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < BLOCKS; i++)
            if (blocks[i].pages) {
                verify(&blocks[i]);
                write_some(&blocks[i]);
                unmap(&blocks[i], blocks[i].pages);
                map(&blocks[i]);
            }
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status)
        fail("child");
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    seed = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    for (int step = 0; step < STEPS; step++) {
        struct block *block = &blocks[number(BLOCKS)];
        if (!block->pages)
            map(block);
        switch (number(8)) {
        case 0:
            unmap(block, block->pages);
            break;
        case 1:
            unmap(block, (int)number((unsigned)block->pages + 1));
            break;
        case 2:
            remap(block);
            break;
        case 3:
            change(block);
            break;
        case 4:
            verify(block);
            break;
        default:
            write_some(block);
        }
        if (step % (STEPS / 8) == 0)
            in_child();
    }
    for (int i = 0; i < BLOCKS; i++)
        verify(&blocks[i]);
    puts("right");
    return 0;
}
