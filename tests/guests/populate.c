// Memory that is asked for again and again: used, reserved only, the heap's, across a fork, and
// used by one who may want to see each first touch.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMES = 48, MIB = 1 << 20, PAGE = 4096 };

static unsigned long wrong;

static char *map(size_t size)
{
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        exit(2);
    return p;
}

// All bytes are zero; then none is.
static void fill(char *p, size_t size)
{
    for (size_t i = 0; i < size; i += sizeof(long))
        wrong += *(long *)(p + i) != 0;
    memset(p, 1, size);
}

static void use(void)
{
    for (int i = 0; i < TIMES; i++) {
        size_t size = MIB + (size_t)i * PAGE;
        char *p = map(size);
        fill(p, size);
        munmap(p, size);
    }
}

static void reserve(void)
{
    char *kept[TIMES];
    for (int i = 0; i < TIMES; i++)
        *(kept[i] = map(4 * MIB)) = 1;
    for (int i = 0; i < TIMES; i++)
        munmap(kept[i], 4 * MIB);
}

static void heap(void)
{
    for (int i = 0; i < TIMES; i++)
        fill(sbrk(MIB / 4), MIB / 4);
    sbrk(-TIMES * (MIB / 4));
    fill(sbrk(MIB / 4), MIB / 4);
}

static void forked(void)
{
    char *p = map(2 * MIB);
    memset(p, 7, 2 * MIB);
    int status = 0;
    if (fork() == 0) {
        wrong += p[MIB] != 7;
        p[MIB] = 8;
        use();
        _exit(wrong != 0);
    }
    wrong += wait(&status) < 0 || status != 0;
    wrong += p[MIB] != 7;
}

static void watched(void)
{
    long fd = syscall(SYS_userfaultfd, 0); // which may be forbidden
    use();
    close((int)fd);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"use", use},
                 {"reserve", reserve},
                 {"heap", heap},
                 {"forked", forked},
                 {"watched", watched}};
    for (unsigned i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        if (argc < 2 || strcmp(argv[1], parts[i].name) == 0)
            parts[i].run();
    printf("wrong %lu\n", wrong);
    return 0;
}
