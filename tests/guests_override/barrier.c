// Write barriers by mprotect and SIGSEGV, as garbage collectors have them, beside a model: every
// access faults if and only if the page's protection says so, with Linux's si_addr and si_code, and
// what is written is there. Between rounds the mappings change in all ways that there are.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1500, ROUNDS = 60 };
enum how { BARRIER, PROBE };

static char *heap;
static volatile int rights[PAGES]; // PROT_*
static unsigned value[PAGES];
static volatile unsigned long faults; // changed by plain accesses, as the compiler sees it
static unsigned seed = 1;
static volatile enum how how;
static sigjmp_buf back;
static char *volatile expected;
static char apart[1 << 16];

static unsigned number(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % below;
}

static void fail(const char *what)
{
    printf("%s\n", what);
    exit(1);
}

static char *page(int i)
{
    return heap + (size_t)i * PAGE;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    if (sig != SIGSEGV || info->si_addr != expected)
        fail("another address");
    if (info->si_code != SEGV_ACCERR)
        fail("another code");
    if ((char *)uc->uc_mcontext.gregs[REG_CR2] != expected)
        fail("another CR2");
    faults++;
    if (how == PROBE)
        siglongjmp(back, 1);
    int i = (int)((expected - heap) / PAGE);
    if (mprotect(page(i), PAGE, PROT_READ | PROT_WRITE))
        fail("mprotect in the handler");
    rights[i] = PROT_READ | PROT_WRITE;
}

// Returns 1 if an access is a fault.
static int probe(int i, int write)
{
    how = PROBE;
    expected = page(i) + 8;
    if (sigsetjmp(back, 0)) {
        how = BARRIER;
        return 1;
    }
    if (write)
        *(volatile int *)expected = 1;
    else
        (void)*(volatile int *)expected;
    how = BARRIER;
    return 0;
}

static void verify(int step)
{
    for (int i = (int)number((unsigned)step); i < PAGES; i += step) {
        if (probe(i, 0) != !(rights[i] & PROT_READ))
            fail("reading");
        if (probe(i, 1) != !(rights[i] & PROT_WRITE))
            fail("writing");
        if (rights[i] & PROT_READ && *(unsigned *)page(i) != value[i])
            fail("another value");
    }
}

static void store(int i)
{
    unsigned long before = faults;
    int forbidden = !(rights[i] & PROT_WRITE);
    expected = page(i);
    *(volatile unsigned *)expected = value[i] = number(1u << 30);
    if (faults - before != (unsigned long)forbidden)
        fail("a store without its barrier, or with too many");
}

static void protect(int first, int count, int prot)
{
    if (mprotect(page(first), (size_t)count * PAGE, prot))
        fail("mprotect");
    for (int i = first; i < first + count; i++)
        rights[i] = prot;
}

static void renew(int first, int count, int prot)
{
    if (mmap(page(first), (size_t)count * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
             0) != page(first))
        fail("mmap");
    for (int i = first; i < first + count; i++)
        rights[i] = prot, value[i] = 0;
}

static void change(unsigned kind)
{
    int first = (int)number(PAGES), count = 1 + (int)number((unsigned)(PAGES - first));
    count = number(3) && count > 20 ? 20 : count;
    size_t size = (size_t)count * PAGE;
    switch (kind) {
    case 0:
        renew(first, count, number(2) ? PROT_READ : PROT_READ | PROT_WRITE);
        break;
    case 1: // what is mapped there next has no more of the old protection
        if (munmap(page(first), size))
            fail("munmap");
        renew(first, count, PROT_READ | PROT_WRITE);
        break;
    case 2:
        for (int i = first; i < first + count; i++)
            value[i] = 0;
        if (madvise(page(first), size, MADV_DONTNEED))
            fail("madvise");
        break;
    case 3:
        protect(first, count, PROT_READ | PROT_EXEC);
        break;
    case 4:
        if (madvise(page(first), size, MADV_DONTFORK) || madvise(page(first), size, MADV_DOFORK))
            fail("madvise, fork");
        break;
    case 5: { // there and back
        char *other = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < count; i++) {
            char *to = other + (size_t)i * PAGE;
            if (mremap(page(first + i), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to ||
                mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(first + i)) !=
                    page(first + i))
                fail("mremap");
        }
        munmap(other, size);
        break;
    }
    case 6:
        protect(first, 1, PROT_NONE);
        if (!mlock(page(first), PAGE))
            fail("mlock of what cannot be accessed");
        munlock(page(first), PAGE);
        break;
    case 7:
        if (!mprotect(page(first) + 1, PAGE, PROT_READ) || mprotect(page(first), 0, PROT_NONE))
            fail("arguments");
        break;
    default:
        break;
    }
}

static void in_child(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        verify(3);
        for (int i = 0; i < PAGES; i += 7)
            store(i);
        protect(0, PAGES, PROT_READ);
        for (int i = 0; i < PAGES; i += 5)
            store(i);
        verify(3);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status)
        fail("child");
}

int main(int argc, char **argv)
{
    stack_t stack = {.ss_sp = apart, .ss_size = sizeof(apart)};
    int flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; // which costs no call that sets the mask
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = flags};
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    seed = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    heap = mmap(NULL, (size_t)PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    protect(0, PAGES, PROT_READ | PROT_WRITE);
    for (int round = 0; round < ROUNDS; round++) {
        protect(0, PAGES, number(8) ? PROT_READ : PROT_NONE);
        for (int stores = 0; stores < 400; stores++)
            store((int)number(PAGES));
        verify(11);
        for (int changes = 0; changes < 4; changes++)
            change(number(8));
        verify(7);
        if (round % 12 == 11)
            in_child();
    }
    // From here on natively, with what is forbidden.
    protect(0, PAGES, PROT_READ);
    store(5);
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {1, &allow};
    if (argc > 2 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
                     prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)))
        fail("prctl");
    verify(1);
    printf("right, %lu faults\n", faults);
    return 0;
}
