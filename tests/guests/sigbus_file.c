// Proves that accesses to a file mapping beyond the file's end raise SIGBUS with BUS_ADRERR at the
// exact address, also after the file has been cut under the mapping, and work once it has grown.
#include "guest.h"

#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf env;
static char *base;

static void handler(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    say("fault", "%s code %d addr base+0x%lx trap %lld err %llx", sigabbrev_np(sig), info->si_code,
        (char *)info->si_addr - base, regs[REG_TRAPNO], regs[REG_ERR]);
    siglongjmp(env, 1);
}

static void touch(size_t offset, bool write)
{
    if (sigsetjmp(env, 1))
        return;
    volatile char *at = base + offset;
    if (write)
        *at = 'x';
    say("touched", "0x%lx '%c'", offset, *at ? *at : '0');
}

int main(void)
{
    handle(SIGBUS, handler, 0);
    handle(SIGSEGV, handler, 0);
    static const int kinds[] = {MAP_SHARED, MAP_PRIVATE};
    for (unsigned kind = 0; kind < COUNT(kinds); kind++) {
        FILE *file = tmpfile();
        NEED(file);
        int fd = fileno(file);
        NEED(ftruncate(fd, PAGE + 100) == 0);
        NEED(pwrite(fd, "abc", 3, PAGE) == 3);
        base = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, kinds[kind], fd, 0);
        NEED(base != MAP_FAILED);
        say("mapping", "%s", kinds[kind] == MAP_SHARED ? "shared" : "private");
        touch(PAGE + 1, false);
        touch(PAGE + 2000, true); // behind the end, but on the file's last page
        touch(2 * PAGE, false);
        touch(3 * PAGE + 0x456, true);
        NEED(ftruncate(fd, 10) == 0);
        touch(5, true);
        touch(PAGE + 1, false);
        NEED(ftruncate(fd, 4 * PAGE) == 0);
        touch(PAGE + 1, false);
        touch(3 * PAGE + 0x456, true);
        char byte = 0;
        NEED(pread(fd, &byte, 1, 3 * PAGE + 0x456) == 1);
        say("file has", "%d", byte);
        // A system call given such an address fails; it does not raise.
        NEED(ftruncate(fd, PAGE) == 0);
        int pipes[2];
        NEED(pipe(pipes) == 0);
        say("write from it", "%s", outcome(write(pipes[1], base + 2 * PAGE, 1)));
        munmap(base, 4 * PAGE);
        fclose(file);
    }
    return 0;
}
