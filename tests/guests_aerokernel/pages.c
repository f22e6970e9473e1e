// Page-table services and fault handlers. At ring 3 protection is Linux's, at ring 0 the HRT's own.
#define _GNU_SOURCE
#include "check.h"

#ifndef AEROKERNEL_NATIVE
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#endif

enum { PAGES = 16, PAGE = AK_PAGE_SIZE };
static char *area;
static volatile int faults; // changed by plain accesses, as the compiler sees it
static volatile struct ak_fault last;

static bool allow(const struct ak_fault *fault, void *arg)
{
    faults++;
    last = *fault;
    CHECK(arg == (void *)7);
    char *page = (char *)(fault->address & ~(uint64_t)(PAGE - 1));
    volatile double x = 1.5; // a handler may use all registers
    x *= 2;
    CHECK(ak_page_protect(page, PAGE, AK_PAGE_WRITE) == 0);
    return true;
}

#ifndef AEROKERNEL_NATIVE
static sigjmp_buf back;

static bool refuse(const struct ak_fault *fault, void *arg)
{
    (void)fault, (void)arg;
    faults++;
    return false;
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    siglongjmp(back, info->si_addr == area + 5 && info->si_code == SEGV_ACCERR ? 1 : 2);
}

#endif

static void arguments(void)
{
    CHECK(ak_page_prepare(area + 1, PAGE) == -EINVAL);
    CHECK(ak_page_prepare((void *)0xffffffff80000000, PAGE) == -EINVAL);
    CHECK(ak_page_protect(area, PAGE + 1, AK_PAGE_READ) == -EINVAL);
    CHECK(ak_page_protect(area, PAGE, (enum ak_page_access)9) == -EINVAL);
    CHECK(ak_fault_handle(area, 0, allow, NULL) == -EINVAL);
    CHECK(ak_fault_handle(area, PAGE, allow, (void *)7) == 0);
    CHECK(ak_fault_handle(area, PAGE, allow, (void *)7) == -EEXIST);
    CHECK(ak_fault_unhandle(area + PAGE) == -ENOENT);
    CHECK(ak_fault_unhandle(area) == 0);
    CHECK(ak_page_prepare(area, PAGES * PAGE) == 0);
}

static void barrier(void)
{
    CHECK(ak_fault_handle(area, PAGES * PAGE, allow, (void *)7) == 0);
    faults = 0;
    for (int i = 0; i < 1000; i++) {
        char *at = area + i % PAGES * PAGE + 9;
        double kept = i * 0.25;
        CHECK(ak_page_protect(at - 9, PAGE, AK_PAGE_READ) == 0);
        CHECK(*(volatile char *)at == (char)(i / PAGES)); // reading is allowed
        CHECK(faults == i);
        *(volatile char *)at = (char)(i / PAGES + 1);
        CHECK(faults == i + 1 && last.address == (uint64_t)at && last.write);
        CHECK(*(volatile char *)at == (char)(i / PAGES + 1) && kept == i * 0.25);
    }
    CHECK(ak_page_protect(area, PAGE, AK_PAGE_NONE) == 0);
    CHECK(area[100] == 0 && faults == 1001 && !last.write);
    CHECK(ak_fault_unhandle(area) == 0);
}

#ifndef AEROKERNEL_NATIVE
static void refused(void)
{
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    CHECK(ak_fault_handle(area, PAGE, refuse, NULL) == 0);
    CHECK(ak_page_protect(area, PAGE, AK_PAGE_READ) == 0);
    for (faults = 0; faults < 3;) {
        int before = faults, how = sigsetjmp(back, 1);
        if (!how) {
            area[5] = 1;
            CHECK(!"the write has been done");
        }
        CHECK(how == 1 && faults == before + 1);
    }
    CHECK(ak_fault_unhandle(area) == 0);
    int how = sigsetjmp(back, 1); // without a handler it is a signal at once
    if (!how)
        area[5] = 1;
    CHECK(how == 1 && faults == 3);
    CHECK(ak_page_protect(area, PAGE, AK_PAGE_WRITE) == 0);
    area[5] = 1;
    signal(SIGSEGV, SIG_DFL);
}

static bool writing_is_a_signal(void)
{
    int how = sigsetjmp(back, 1);
    if (!how)
        area[5] = 1;
    return how == 1;
}

// Protection that was Linux's becomes the page tables', and Linux's again.
static void adopted(void)
{
    char *kept = area;
    area = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    if (ak_ring() == 3) {
        CHECK(ak_page_adopt(area, 2 * PAGE, AK_PAGE_READ) == -EPERM);
    } else {
        CHECK(ak_page_adopt(area + 1, PAGE, AK_PAGE_READ) == -EINVAL);
        CHECK(ak_page_adopt(area, 2 * PAGE, AK_PAGE_READ) == 0);
        CHECK(writing_is_a_signal() && area[5] == 0);
        CHECK(ak_page_protect(area, PAGE, AK_PAGE_WRITE) == 0);
        area[5] = 1;
        CHECK(ak_page_protect(area, PAGE, AK_PAGE_READ) == 0);
        CHECK(writing_is_a_signal());
    }
    CHECK(ak_page_release(area, PAGE + 1, AK_PAGE_READ) == -EINVAL);
    CHECK(ak_page_release(area, 2 * PAGE, AK_PAGE_READ) == 0);
    CHECK(writing_is_a_signal());
    CHECK(mprotect(area, PAGE, PROT_READ | PROT_WRITE) == 0);
    area[5] = 1;
    CHECK(munmap(area, 2 * PAGE) == 0);
    signal(SIGSEGV, SIG_DFL);
    area = kept;
}

static void write_is_handled(void)
{
    int before = faults;
    *(volatile char *)(area + PAGE + 3) = 1;
    CHECK(faults == before + 1 && last.address == (uint64_t)area + PAGE + 3);
    CHECK(ak_page_protect(area + PAGE, PAGE, AK_PAGE_READ) == 0);
}

// What Linux refuses to do changes nothing.
static void refused_calls(void)
{
    char *page = area + PAGE;
    CHECK(ak_fault_handle(page, PAGE, allow, (void *)7) == 0);
    CHECK(ak_page_protect(page, PAGE, AK_PAGE_READ) == 0);
    write_is_handled();
    CHECK(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_GROWSDOWN | PROT_GROWSUP) == -1);
    write_is_handled();
    CHECK(munmap(page + 1, PAGE) == -1);
    write_is_handled();
    CHECK(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED);
    write_is_handled();
    CHECK(mremap(page, PAGE, PAGE, 0x100) == MAP_FAILED);
    write_is_handled();
    CHECK(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
    int before = faults;
    *(volatile char *)(page + 3) = 2;
    CHECK(faults == before);
    CHECK(ak_fault_unhandle(page) == 0);
}

static volatile int ticks;

static void on_tick(int sig)
{
    (void)sig;
    ticks++;
}

// Signals that find the virtual CPU anywhere on a fault's way to its handler. Each comes but once,
// or a slow machine would do nothing else.
static void interrupted(void)
{
    enum { ROUNDS = 2000, LATEST_US = 1000 };
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct itimerval never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    CHECK(ak_fault_handle(area, PAGE, allow, (void *)7) == 0);
    for (faults = 0; faults < ROUNDS;) {
        int before = faults;
        struct itimerval once = {.it_value = {0, 1 + faults % LATEST_US}};
        CHECK(ak_page_protect(area, PAGE, AK_PAGE_READ) == 0);
        CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
        *(volatile char *)area = 1;
        CHECK(faults == before + 1);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0 && ticks > 0);
    CHECK(ak_fault_unhandle(area) == 0);
    signal(SIGALRM, SIG_DFL);
}

static void on_tick_write(int sig)
{
    on_tick(sig);
    CHECK(ak_page_protect(area, PAGE, AK_PAGE_READ) == 0);
    *(volatile char *)area = 1;
}

// Signals whose handlers fault while a handler of faults is given or taken away: some of them find
// that half done.
static void handlers_change(void)
{
    enum { TICKS = 200, LATEST_US = 50 };
    struct sigaction action = {.sa_handler = on_tick_write, .sa_flags = SA_RESTART};
    CHECK(ak_fault_handle(area, PAGE, allow, (void *)7) == 0);
    sigaction(SIGALRM, &action, NULL);
    for (faults = ticks = 0; ticks < TICKS;) {
        int before = ticks;
        struct itimerval once = {.it_value = {0, 1 + ticks % LATEST_US}};
        CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
        while (ticks == before) {
            CHECK(ak_fault_handle(area + PAGE, PAGE, allow, NULL) == 0);
            CHECK(ak_fault_handle(area + 2 * PAGE, PAGE, allow, NULL) == 0);
            CHECK(ak_fault_unhandle(area + PAGE) == 0);
            CHECK(ak_fault_unhandle(area + 2 * PAGE) == 0);
        }
    }
    CHECK(faults == TICKS);
    CHECK(ak_fault_unhandle(area) == 0);
    signal(SIGALRM, SIG_DFL);
}

// The lowest address of the stack that Linux has given so far.
static uint64_t stack_begin(void)
{
    char line[256];
    unsigned long begin = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof(line), maps))
        if (strstr(line, "[stack]"))
            sscanf(line, "%lx", &begin);
    fclose(maps);
    CHECK(begin);
    return begin;
}

// A handler's frame lies where Linux has to let the stack grow first.
static void stack_grows(void)
{
    enum { ROOM = 160 }; // more than the red zone
    CHECK(ak_fault_handle(area, PAGE, allow, (void *)7) == 0);
    for (int i = 0; i < 3; i++) {
        int before = faults;
        uint64_t stack = stack_begin() + ROOM, kept;
        CHECK(ak_page_protect(area, PAGE, AK_PAGE_READ) == 0);
        __asm__ volatile("mov %%rsp, %0; mov %1, %%rsp; movb $1, (%2); mov %0, %%rsp"
                         : "=&r"(kept)
                         : "r"(stack), "r"(area)
                         : "memory");
        CHECK(faults == before + 1 && last.address == (uint64_t)area);
        CHECK(stack_begin() < stack - ROOM);
    }
    CHECK(ak_fault_unhandle(area) == 0);
}

static void mapped_anew(void)
{
    CHECK(ak_page_protect(area, PAGE, AK_PAGE_NONE) == 0);
    CHECK(mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == area);
    area[0] = 1; // the new page knows nothing of the old one's protection
}
#endif

static void entries(void)
{
    uint64_t entry;
    static int nowhere_near;
    if (ak_ring() == 3) {
        CHECK(ak_page_entry(area, &entry) == -EPERM);
#ifndef AEROKERNEL_NATIVE
        CHECK(ak_page_test(area, PAGE, AK_PAGE_DIRTY, false) == -EPERM);
        return;
#endif
    } else {
        CHECK(ak_page_entry(area, &entry) == 0);
        CHECK(ak_page_entry(&nowhere_near, &entry) == 0);
        CHECK(ak_page_entry((void *)0x7000, &entry) == 0 || true);
    }
    memset(area, 1, PAGES * PAGE);
    CHECK(ak_ring() == 3 || (ak_page_entry(area, &entry) == 0 && (entry & 3) == 3));
    CHECK(ak_page_test(area, PAGES * PAGE, AK_PAGE_DIRTY, true) == PAGES);
    CHECK(ak_page_test(area, PAGES * PAGE, AK_PAGE_DIRTY, false) == 0);
    area[3 * PAGE] = 2;
    area[7 * PAGE] = 2;
    CHECK(*(volatile char *)(area + 9 * PAGE) == 1);
    CHECK(ak_page_test(area, PAGES * PAGE, AK_PAGE_DIRTY, true) == 2);
    CHECK(ak_page_test(area, PAGES * PAGE, AK_PAGE_ACCESSED, true) == PAGES);
    CHECK(*(volatile char *)(area + 9 * PAGE) == 1);
    CHECK(ak_page_test(area, PAGES * PAGE, AK_PAGE_ACCESSED, true) == 1);
    CHECK(ak_page_test(area, PAGES * PAGE, AK_PAGE_DIRTY, false) == 0);
}

static volatile bool stop;
static volatile char *volatile target;

// Write as fast as possible; what has been protected must never be written.
static void *writer(void *arg)
{
    (void)arg;
    while (!stop) {
        volatile char *at = __atomic_load_n(&target, __ATOMIC_ACQUIRE);
        if (at)
            *at = 1;
    }
    return NULL;
}

static bool let(const struct ak_fault *fault, void *arg)
{
    (void)fault;
    CHECK(ak_page_protect(area, PAGE, AK_PAGE_WRITE) == 0);
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
    return true;
}

static void two_cpus(void)
{
    elsewhere other;
    int seen = 0;
    CHECK(ak_fault_handle(area, PAGE, let, &seen) == 0);
    CHECK(begin_elsewhere(&other, writer, NULL) == 0);
    target = area;
    for (int i = 0; i < 50; i++) {
        int before = __atomic_load_n(&seen, __ATOMIC_SEQ_CST);
        CHECK(ak_page_protect(area, PAGE, AK_PAGE_READ) == 0);
        // The other one, too, faults now, though it has just written there.
        for (int k = 0; __atomic_load_n(&seen, __ATOMIC_SEQ_CST) == before; k++) {
            CHECK(k < 20000);
            ak_sleep(100000);
        }
    }
    stop = true;
    end_elsewhere(other);
    CHECK(ak_fault_unhandle(area) == 0);
}

int main(void)
{
    attach();
#ifdef AEROKERNEL_NATIVE
    area = ak_pages_alloc(4);
    CHECK(area);
#else
    area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
#endif
    memset(area, 0, PAGES * PAGE);
    PART(arguments);
    PART(barrier);
#ifndef AEROKERNEL_NATIVE
    PART(refused);
    PART(refused_calls);
    PART(adopted);
    PART(interrupted);
    PART(handlers_change);
    PART(stack_grows);
    PART(mapped_anew);
#endif
    PART(entries);
    PART(two_cpus);
    return 0;
}
