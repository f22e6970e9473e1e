// Proves that memory which goes without munmap (below the break, by shmdt, under a shmat that
// replaces it) takes with it what mprotect had made of it: what is mapped there next is neither
// executable nor protected.
#include "guest.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <sys/shm.h>

#define AREA ((char *)0x300000000000)

static sigjmp_buf env;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    siglongjmp(env, info->si_code);
}

// Whether it can be written, as a RET, and executed.
static void try(const char *what, char *at)
{
    int code = sigsetjmp(env, 1);
    if (code) {
        say(what, "not written, code %d", code);
        return;
    }
    *at = (char)0xc3;
    code = sigsetjmp(env, 1);
    if (code == 0)
        ((void (*)(void))at)();
    say(what, "written, %s", code ? "not executed" : "executed");
}

// Let it be executed, and then protected, so that both have been seen.
static void spoil(const char *what, char *at, size_t size)
{
    memset(at, 0xc3, size);
    NEED(mprotect(at, size, PROT_READ | PROT_EXEC) == 0);
    try(what, at + PAGE);
    ((void (*)(void))at)();
}

static void map(char *at, size_t size, int prot)
{
    NEED(mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
}

int main(void)
{
    enum { SIZE = 4 * PAGE };
    int rw = PROT_READ | PROT_WRITE;
    handle(SIGSEGV, handler, 0);

    NEED(sbrk((long)(PAGE - (uintptr_t)sbrk(0) % PAGE)) != (void *)-1);
    char *heap = sbrk(SIZE);
    spoil("heap", heap, SIZE);
    NEED(brk(heap) == 0 && brk(heap + SIZE) == 0);
    try("heap that is new", heap + PAGE);

    int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
    NEED(id >= 0);
    char *shared = shmat(id, AREA, 0);
    NEED(shared == AREA);
    spoil("shared", AREA, SIZE);
    NEED(shmdt(shared) == 0);
    // Linux takes a free hint as it is.
    NEED(mmap(AREA, SIZE, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == AREA);
    try("mapped where it was", AREA + PAGE);
    NEED(munmap(AREA, SIZE) == 0 && shmat(id, AREA, 0) == AREA);
    spoil("shared again", AREA, SIZE);
    NEED(shmdt(AREA) == 0 && shmat(id, AREA, 0) == AREA);
    try("attached where it was", AREA + PAGE);
    spoil("shared once more", AREA, SIZE);
    NEED(shmdt(AREA) == 0);
    map(AREA + (1 << 21), SIZE, rw);
    NEED(mremap(AREA + (1 << 21), SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, AREA) == AREA);
    try("moved where it was", AREA + PAGE);
    spoil("private", AREA, SIZE);
    NEED(shmat(id, AREA, SHM_REMAP) == AREA);
    try("attached over it", AREA + PAGE);

    say("shmat", "%s", outcome((long)shmat(-1, NULL, 0)));
    say("over something", "%s", outcome((long)shmat(id, AREA, 0)));
    say("odd address", "%s", outcome((long)shmat(id, AREA + SIZE + 5, 0)));
    say("kernel address", "%s", outcome((long)shmat(id, (char *)-SIZE, SHM_REMAP)));
    say("beyond the break", "%s", outcome(brk((void *)1)));
    NEED(shmctl(id, IPC_RMID, NULL) == 0);
    return 0;
}
