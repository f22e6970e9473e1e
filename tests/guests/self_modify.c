// Proves that code which is written, protected, run, changed and run again is always run as it was
// last written: W^X toggling, rewriting in place, and two mappings of one memfd.
#include "guest.h"

#include <pthread.h>
#include <sys/mman.h>

typedef int (*function)(void);

static void emit(void *at, int value)
{
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3}; // mov $value, %eax; ret
    memcpy(code + 1, &value, 4);
    memcpy(at, code, sizeof(code));
    __builtin___clear_cache(at, (char *)at + sizeof(code));
}

static char *rwx;
static pthread_barrier_t barrier;

static void *caller(void *arg)
{
    long *sum = arg;
    for (int i = 0; i < 50; i++) {
        pthread_barrier_wait(&barrier);
        *sum += ((function)(rwx + 64))();
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

int main(void)
{
    char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(page != MAP_FAILED);
    long sum = 0;
    for (int i = 0; i < 100; i++) {
        NEED(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
        emit(page + i, i);
        NEED(mprotect(page, PAGE, PROT_READ | PROT_EXEC) == 0);
        sum += ((function)(page + i))();
    }
    say("toggled", "%ld", sum);

    rwx = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0);
    NEED(rwx != MAP_FAILED);
    sum = 0;
    for (int i = 0; i < 1000; i++) {
        char *at = rwx + i * 37 % (15 * PAGE) / 16 * 16;
        emit(at, i);
        sum += ((function)at)();
        emit(at, -i * 2);
        sum += ((function)at)();
    }
    say("rewritten", "%ld", sum);

    // Straddling two pages, of which the second is replaced.
    NEED(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    emit(page + PAGE - 3, 0x01020304);
    say("straddling", "%x", ((function)(page + PAGE - 3))());
    page[PAGE] = 0x7f;
    say("straddling, changed", "%x", ((function)(page + PAGE - 3))());

    int fd = memfd_create("code", 0);
    NEED(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
    char *writable = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *executable = mmap(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    NEED(writable != MAP_FAILED && executable != MAP_FAILED);
    sum = 0;
    for (int i = 0; i < 500; i++) {
        unsigned offset = i * 61 % (3 * PAGE);
        emit(writable + offset, i);
        sum += ((function)(executable + offset))();
    }
    say("two mappings", "%ld", sum);

    // Replaced as a whole, at the same address.
    for (int i = 0; i < 20; i++) {
        char *fresh = mmap(page, PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        NEED(fresh == page);
        emit(page, i);
        NEED(mprotect(page, PAGE, PROT_EXEC | PROT_READ) == 0);
        NEED(((function)page)() == i);
    }
    say("remapped", "%d", ((function)page)());

    long sums[2] = {0};
    pthread_t threads[2];
    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 2; i++)
        NEED(pthread_create(&threads[i], NULL, caller, &sums[i]) == 0);
    for (int i = 0; i < 50; i++) {
        emit(rwx + 64, i * 3);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    say("called by threads", "%ld %ld", sums[0], sums[1]);
    return 0;
}
