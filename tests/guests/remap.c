// Proves that changes to mappings take effect at once and exactly: mremap in its forms, MAP_FIXED
// over what was there, madvise(DONTNEED), munmap followed by accesses, and reuse of addresses.
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf env;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    siglongjmp(env, sig);
}

static const char *at(volatile char *address)
{
    static char text[32];
    int sig = sigsetjmp(env, 1);
    if (sig)
        return sigabbrev_np(sig);
    snprintf(text, sizeof(text), "%d", *address);
    return text;
}

static char *map(size_t pages, int prot)
{
    char *base = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(base != MAP_FAILED);
    return base;
}

static char *spinning;
static volatile bool stop;

static void *spin(void *arg)
{
    (void)arg;
    long sum = 0;
    while (!stop)
        sum += *(volatile char *)spinning;
    return (void *)(long)(sum >= 0);
}

int main(void)
{
    handle(SIGSEGV, handler, 0);
    handle(SIGBUS, handler, 0);
    int rw = PROT_READ | PROT_WRITE;

    char *a = map(8, rw);
    memset(a, 5, 8 * PAGE);
    NEED(mremap(a, 8 * PAGE, 4 * PAGE, 0) == a);
    say("shrunk, last kept", "%s", at(a + 4 * PAGE - 1));
    say("shrunk, first gone", "%s", at(a + 4 * PAGE));
    char *reserved = map(16, PROT_NONE);
    char *b = mremap(a, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, reserved);
    NEED(b == reserved);
    say("moved and grown", "%s", at(b + 3 * PAGE));
    say("grown part", "%s", at(b + 7 * PAGE));
    say("behind it", "%s", at(b + 8 * PAGE));
    say("old place", "%s", at(a));
    char *c = mremap(b, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    NEED(c != MAP_FAILED);
    say("moved, not unmapped", "%s", at(c));
    say("old place, fresh", "%s", at(b));
    say("bad mremap", "%s", outcome((long)mremap(a, PAGE, 2 * PAGE, 0)));

    NEED(madvise(c + PAGE, PAGE, MADV_DONTNEED) == 0);
    say("dontneed", "%s", at(c + PAGE));
    say("its neighbour", "%s", at(c));
    NEED(munmap(c + 2 * PAGE, PAGE) == 0);
    say("hole", "%s", at(c + 2 * PAGE));
    say("behind the hole", "%s", at(c + 3 * PAGE));
    say("noreplace over a mapping", "%s",
        outcome((long)mmap(c, PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
    char *filled =
        mmap(c + 2 * PAGE, PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    NEED(filled == c + 2 * PAGE);
    say("hole filled", "%s", at(filled));

    int fd = memfd_create("file", 0);
    NEED(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0 && pwrite(fd, "\7\10", 2, PAGE - 1) == 2);
    NEED(mmap(c, 2 * PAGE, rw, MAP_PRIVATE | MAP_FIXED, fd, 0) == c);
    say("file over it", "%s", at(c + PAGE - 1));
    c[PAGE] = 77;
    say("private write", "%s", at(c + PAGE));
    NEED(madvise(c, 2 * PAGE, MADV_DONTNEED) == 0);
    say("file content again", "%s", at(c + PAGE));
    NEED(pwrite(fd, "\11", 1, PAGE) == 1);
    say("file changed by write", "%s", at(c + PAGE));
    NEED(mmap(c + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == c + PAGE);
    say("other page of it", "%s", at(c + PAGE));

    for (int i = 0; i < 300; i++) {
        char *again = map(1 + i % 7, rw);
        NEED(again[0] == 0);
        memset(again, i, PAGE);
        if (i % 3 == 0)
            NEED(mprotect(again, PAGE, PROT_READ) == 0);
        NEED(again[i] == (char)i);
        NEED(munmap(again, (1 + i % 7) * PAGE) == 0);
    }
    say("mapped and unmapped", "300");

    // Another thread keeps reading a page while its protection and its neighbours change.
    spinning = map(3, rw) + PAGE;
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, spin, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        NEED(mprotect(spinning, PAGE, i % 2 ? rw : PROT_READ) == 0);
        NEED(munmap(spinning + PAGE, PAGE) == 0);
        NEED(mmap(spinning + PAGE, PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
             spinning + PAGE);
    }
    stop = true;
    void *result;
    pthread_join(thread, &result);
    say("read meanwhile", "%s", yes(result));
    unsigned char core[8];
    say("mincore", "%s", outcome(mincore(spinning, PAGE, core)));
    say("mlock", "%s", outcome(mlock(spinning, PAGE)));
    say("msync", "%s", outcome(msync(c, 2 * PAGE, MS_SYNC)));
    say("unaligned munmap", "%s", outcome(munmap(c + 1, PAGE)));
    say("zero mmap", "%s", outcome((long)mmap(NULL, 0, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    return 0;
}
