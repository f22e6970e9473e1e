// Proves that memory which Linux does not map executable cannot be executed: heap, stack, data,
// anonymous and file mappings, each also after execution had been allowed for a time.
#include "guest.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf env;
static char *target;
static char data[PAGE] = {(char)0xc3};

static void handler(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    say("  refused", "%s code %d there %s rip %s err %llx", sigabbrev_np(sig), info->si_code,
        yes(info->si_addr == target), yes((char *)regs[REG_RIP] == target), regs[REG_ERR]);
    siglongjmp(env, 1);
}

static void execute(const char *what, void *at)
{
    target = at;
    say("execute", "%s", what);
    if (sigsetjmp(env, 1) == 0) {
        ((void (*)(void))target)();
        say("  executed", "%s", what);
    }
}

int main(void)
{
    char stack[64] = {(char)0xc3};
    char *heap = malloc(1 << 20);
    memset(heap, 0xc3, 1 << 20);
    handle(SIGSEGV, handler, 0);
    execute("heap", heap + 1000);
    execute("stack", stack);
    execute("data", data);

    char *rw = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(rw != MAP_FAILED);
    memset(rw, 0xc3, 4 * PAGE);
    execute("anonymous", rw);
    NEED(mprotect(rw + PAGE, PAGE, PROT_READ | PROT_EXEC) == 0);
    execute("one page made executable", rw + PAGE + 5);
    execute("its neighbour below", rw + PAGE - 1);
    execute("its neighbour above", rw + 2 * PAGE);
    NEED(mprotect(rw + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    execute("made writable again", rw + PAGE + 5);
    rw[PAGE + 5] = 'x';
    say("and written", "%c", rw[PAGE + 5]);
    NEED(mprotect(rw, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    execute("all made executable", rw + 3 * PAGE);
    NEED(mmap(rw, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
         rw);
    rw[0] = (char)0xc3;
    execute("replaced by mmap", rw);
    NEED(munmap(rw + 2 * PAGE, PAGE) == 0);
    execute("unmapped", rw + 2 * PAGE);

    int fd = memfd_create("text", 0);
    NEED(fd >= 0 && ftruncate(fd, PAGE) == 0 && pwrite(fd, "\xc3", 1, 0) == 1);
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    NEED(file != MAP_FAILED);
    execute("file, read only", file);
    NEED(mprotect(file, PAGE, PROT_READ | PROT_EXEC) == 0);
    execute("file, executable", file);
    NEED(mprotect(file, PAGE, PROT_NONE) == 0);
    execute("file, no access", file);
    char *moved =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(moved != MAP_FAILED);
    moved[0] = (char)0xc3;
    char *to = mremap(moved, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    NEED(to != MAP_FAILED);
    execute("moved by mremap", to);
    return 0;
}
