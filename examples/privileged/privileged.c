// A program that knows that it is a kernel: it reads control registers and an MSR, walks its own
// page table, write-protects a page by its entry, takes the fault in a handler of its own, and
// counts written pages by the dirty bit. Beside each stands what Linux takes for the same.
//
//   cc -O2 privileged.c $(multiverse aerokernel) -o privileged
//   multiverse run ./privileged
#define _GNU_SOURCE
#include <aerokernel.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 256, TIMES = 1000 };

static char *area;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// ---- What a kernel can read ---------------------------------------------------------------------

static void show_registers(void)
{
    static const unsigned numbers[] = {0, 3, 4};
    uint64_t value;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (ak_cr_read(numbers[i], &value) == 0)
            printf("CR%u  0x%016" PRIx64 "\n", numbers[i], value);
    enum { EFER = 0xc0000080 };
    if (ak_msr_read(EFER, &value) == 0)
        printf("EFER 0x%016" PRIx64 "%s\n", value, value & 1 << 11 ? " (NX is on)" : "");
}

// From CR3 to the page that `address` is in, level by level.
static void walk(const void *address)
{
    static const char *const levels[] = {"PML4", "PDPT", "PD", "PT"};
    const uint64_t physical = 0x000ffffffffff000, present = 1, large = 1 << 7;
    uint64_t entry;
    if (ak_cr_read(3, &entry))
        return;
    printf("%p is mapped by\n", address);
    for (int level = 0; level < 4; level++) {
        const uint64_t *table = ak_page_table(entry & physical);
        unsigned index = (uint64_t)address >> (39 - 9 * level) & 511;
        if (!table)
            return;
        entry = table[index];
        printf("  %-4s [%3u] 0x%016" PRIx64 "\n", levels[level], index, entry);
        if (!(entry & present) || entry & large)
            return;
    }
}

// ---- A write barrier, by the AeroKernel and by Linux --------------------------------------------

static int faults;

static bool on_fault(const struct ak_fault *fault, void *arg)
{
    char *page = (char *)(fault->address & ~(uint64_t)(PAGE - 1));
    faults++;
    (void)arg;
    return ak_page_protect(page, PAGE, AK_PAGE_WRITE) == 0;
}

static double barrier_by_aerokernel(void)
{
    if (ak_fault_handle(area, PAGES * PAGE, on_fault, NULL))
        return 0;
    double begin = now_ns();
    for (int i = 0; i < TIMES; i++) {
        char *page = area + i % PAGES * PAGE;
        ak_page_protect(page, PAGE, AK_PAGE_READ);
        *(volatile char *)page = 1;
    }
    double each = (now_ns() - begin) / TIMES;
    ak_fault_unhandle(area);
    return faults == TIMES ? each : 0;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    char *page = (char *)((uint64_t)info->si_addr & ~(uint64_t)(PAGE - 1));
    faults++;
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE))
        _exit(1);
}

static double barrier_by_linux(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    double begin = now_ns();
    for (int i = 0; i < TIMES; i++) {
        char *page = area + i % PAGES * PAGE;
        if (mprotect(page, PAGE, PROT_READ))
            fail("mprotect");
        *(volatile char *)page = 1;
    }
    return faults == TIMES ? (now_ns() - begin) / TIMES : 0;
}

// ---- Which pages have been written --------------------------------------------------------------

static void write_some(void)
{
    for (int i = 0; i < PAGES; i += 3)
        area[i * PAGE] = 2;
}

static double dirty_by_aerokernel(long *count)
{
    ak_page_test(area, PAGES * PAGE, AK_PAGE_DIRTY, true);
    write_some();
    double begin = now_ns();
    *count = ak_page_test(area, PAGES * PAGE, AK_PAGE_DIRTY, true);
    return now_ns() - begin;
}

// Clearing and reading the soft-dirty bits (proc(5), Documentation/admin-guide/mm/soft-dirty.rst).
static double dirty_by_linux(long *count)
{
    static uint64_t entries[PAGES];
    const uint64_t soft_dirty = (uint64_t)1 << 55;
    int clear = open("/proc/self/clear_refs", O_WRONLY), map = open("/proc/self/pagemap", O_RDONLY);
    if (clear < 0 || map < 0 || write(clear, "4", 1) != 1)
        return 0;
    write_some();
    double begin = now_ns();
    ssize_t got = pread(map, entries, sizeof(entries), (off_t)((uint64_t)area / PAGE * 8));
    *count = 0;
    for (int i = 0; i < PAGES && got == sizeof(entries); i++)
        *count += (entries[i] & soft_dirty) != 0;
    if (write(clear, "4", 1) != 1)
        return 0;
    return now_ns() - begin;
}

// ---- Both sides ---------------------------------------------------------------------------------

struct costs {
    double barrier, dirty; // ns; 0: it cannot be done here
    long pages;            // that have been found dirty
};

// What Linux takes natively: this program once more, not as an HRT.
static struct costs ask_linux(const char *self)
{
    struct costs costs = {0};
    int ends[2];
    if (pipe(ends))
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        execl(self, self, "--linux", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    if (read(ends[0], &costs, sizeof(costs)) != sizeof(costs))
        costs = (struct costs){0};
    waitpid(child, NULL, 0);
    return costs;
}

static void show(const char *what, double here, double there)
{
    char linux_ns[32] = "not here";
    if (there > 0)
        snprintf(linux_ns, sizeof(linux_ns), "%.0f ns", there);
    printf("%-42s %9.0f ns  %12s", what, here, linux_ns);
    printf(there > 0 && here > 0 ? "  %7.3f\n" : "\n", here / there);
}

static void make_area(void)
{
    area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        fail("mmap");
    memset(area, 1, PAGES * PAGE);
}

int main(int argc, char **argv)
{
    struct costs own = {0};
    if (argc > 1 && strcmp(argv[1], "--linux") == 0) {
        make_area();
        own.barrier = barrier_by_linux();
        own.dirty = dirty_by_linux(&own.pages);
        return write(1, &own, sizeof(own)) != sizeof(own);
    }
    if (ak_attach()) {
        printf("This program needs an AeroKernel: multiverse run %s\n", argv[0]);
        return 0;
    }
    make_area();
    if (ak_page_prepare(area, PAGES * PAGE))
        fail("ak_page_prepare");
    printf("An HRT at ring %u.\n", ak_ring());
    if (ak_ring() == 0) {
        show_registers();
        walk(area);
    } else {
        puts("Registers and page tables are ring 0's: multiverse testbed run has one.");
    }
    struct costs linux_own = ask_linux("/proc/self/exe");
    printf("%-42s %12s  %12s  %7s\n", "", "AeroKernel", "Linux", "ratio");
    own.barrier = barrier_by_aerokernel();
    show("write barrier: protect, fault, unprotect", own.barrier, linux_own.barrier);
    if (ak_ring() == 0) {
        own.dirty = dirty_by_aerokernel(&own.pages);
        show("256 pages: which are dirty, and clear", own.dirty, linux_own.dirty);
        printf("dirty by the processor's bit: %ld of %d pages", own.pages, PAGES);
        if (linux_own.dirty > 0)
            printf("; by Linux's soft-dirty bit: %ld", linux_own.pages);
        putchar('\n');
    }
    return 0;
}
