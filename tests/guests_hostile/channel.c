// A program that does not keep to the channel's protocol: it writes requests, states and frames
// itself, in the windows of its virtual CPUs. Usage: channel MODE SEED ROUNDS.
//
// slot: one thread's slot is written by that thread, and later by two others, too; the calls of the
// main thread must stay right, no answer may give the core's own away, and code may be rewritten
// only where that is allowed. all: the slots and frames of all threads are written; the program may
// end as it likes, by a signal of its own making at the latest.
//
// Numbers and arguments are such that no call that Linux executes does harm: no other processes,
// no names of files, no memory that is mapped but a buffer for the purpose (hence no getrandom: it
// takes any length and fills what there is).
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/channel.h"
#include "abi/frame.h"

enum {
    THREADS = 4,
    BUFFER = 65536,
    FILE_FD = 300,
    RESULT_FD = 301,
    SEQUENCE_FD = 302,
    NUMBERS = 1000
}; // main and three more: as many windows as are looked at

static _Atomic bool stop, spoiling;
static _Atomic int ready;
static bool all;
static long rounds, given_away;
static volatile struct mv_slot *victim;
static uint64_t region;  // some address of the core's own memory
static int core_fd = -1; // a descriptor of the core's
static char buffer[BUFFER] __attribute__((aligned(4096)));
static int fds[4]; // for requests; those of the ordinary calls are never named in one

static uint64_t next(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random * 0x2545f4914f6cdd1d;
}

#define PICK(random, list) ((list)[next(random) % (sizeof(list) / sizeof((list)[0]))])

static volatile struct mv_slot *slot_of(int window)
{
    return (volatile struct mv_slot *)(AK_WINDOW((uint64_t)window) + AK_SLOT_OFFSET);
}

static volatile struct mv_frame *frame_of(int window)
{
    return (volatile struct mv_frame *)(AK_WINDOW((uint64_t)window) + AK_FRAME_OFFSET);
}

// The window of the calling thread: that in which its requests arrive, over either channel.
static int own_window(uint64_t mark)
{
    syscall(SYS_getppid, mark, mark, mark);
    for (int window = 0; window < THREADS; window++)
        if (frame_of(window)->rdx == mark || slot_of(window)->arg[2] == mark)
            return window;
    _exit(90);
}

// Addresses where nothing of the program's is.
static uint64_t nowhere(uint64_t *random)
{
    const uint64_t list[] = {0,
                             1,
                             0xfff,
                             0x7ffffffff000,
                             0x7fffffffffff,
                             0x800000000000,
                             0xdeadbeefcafebabe,
                             AK_BASE,
                             AK_CONTROL_PAGE,
                             AK_WINDOW(0),
                             AK_WINDOW(0) + AK_FRAME_OFFSET,
                             AK_WINDOW(1) + AK_DOORBELL_OFFSET,
                             AK_WINDOW(900),
                             0xfffffffffffff000,
                             UINT64_MAX};
    return PICK(random, list);
}

// Lengths that either fit into the buffer or are refused by Linux whatever they belong to: a poller
// may see a mixture of two requests.
static uint64_t length(uint64_t *random)
{
    const uint64_t list[] = {0, 1, 8, 4095, 4096, BUFFER / 2, 1UL << 63, UINT64_MAX, -4096UL};
    return PICK(random, list);
}

// A pointer for Linux to read or write through: the buffer, its end, or nothing.
static uint64_t pointer(uint64_t *random)
{
    switch (next(random) % 4) {
    case 0:
        return (uint64_t)buffer;
    case 1:
        return (uint64_t)buffer + next(random) % BUFFER / 2;
    default:
        return nowhere(random);
    }
}

// Only as much as the buffer's second half takes, or more than Linux takes at all.
static uint64_t amount(uint64_t *random)
{
    const uint64_t list[] = {0, 1, 64, 4096, BUFFER / 2, 1UL << 63, UINT64_MAX};
    return PICK(random, list);
}

static uint64_t descriptor(uint64_t *random)
{
    const uint64_t list[] = {(uint64_t)fds[0],  (uint64_t)fds[1], (uint64_t)fds[2],
                             (uint64_t)fds[3],  UINT64_MAX,       400,
                             (uint64_t)core_fd, 1UL << 32 | 999};
    return next(random) % 4 ? PICK(random, list) : (uint64_t)core_fd;
}

// Pages with code that makes a call, and with bytes that only look so; the first one's call is a
// place that may be rewritten.
enum { PAGE = 4096, PAGES = 5, CALL = 0x100, NO_CALL = 0x200 };
static const char *pages[PAGES];
static char page_before[PAGE];

static void make_pages(void)
{
    static const int prot[PAGES] = {PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC,
                                    PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};
    memset(page_before, 0xcc, PAGE);
    memcpy(page_before + CALL, "\x0f\x05\x48\x3d\x01\xf0\xff\xff\xc3", 9);
    memcpy(page_before + NO_CALL, "\x90\x90\x48\x3d\x01\xf0\xff\xff\xc3", 9);
    int fd = memfd_create("code", 0);
    if (write(fd, page_before, PAGE) != PAGE)
        _exit(93);
    for (int i = 0; i < PAGES; i++) {
        bool shared = i == PAGES - 1;
        pages[i] = mmap(NULL, PAGE, prot[i], shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    }
    close(fd);
}

static long changed_bytes(void)
{
    long changed = 0;
    for (int i = 0; i < PAGES; i++)
        for (int at = 0; at < PAGE; at++)
            if (i || at < CALL || at >= CALL + 5)
                changed += pages[i][at] != page_before[at];
    return changed;
}

// Addresses behind a SYSCALL, as the HRT claims. Few: only one that comes often is looked at.
static uint64_t site(uint64_t *random)
{
    uint64_t page = next(random) % PAGES;
    switch (next(random) % 8) {
    case 0:
    case 1:
    case 2:
    case 3:
        return (uint64_t)pages[page] + (page || next(random) % 2 ? CALL : NO_CALL) + 2;
    case 4:
        return region + 2;
    case 5:
        return nowhere(random);
    default:
        return 0;
    }
}

// A request. Calls whose number a poller must not execute are there, too: with a bug they would
// end or double the process, which the test sees.
static void choose(uint64_t *random, uint32_t *nr, uint64_t arg[6])
{
    static const uint32_t odd[] = {
        512,         513,         1023,       0x40000001,   0x7fffffff, 0x80000000,
        0xffffffff,  335,         423,        SYS_exit,     SYS_fork,   SYS_exit_group,
        SYS_vfork,   SYS_clone,   SYS_clone3, SYS_execve,   SYS_pause,  SYS_rt_sigreturn,
        SYS_seccomp, SYS_unshare, SYS_prctl,  SYS_execveat, SYS_setuid, SYS_set_tid_address};
    static const uint32_t harmless[] = {SYS_getpid, SYS_getppid, SYS_gettid, SYS_getuid,
                                        SYS_iopl,   SYS_rseq,    SYS_getsid, SYS_getpgrp};
    for (int i = 0; i < 6; i++)
        arg[i] = next(random) % 2 ? nowhere(random) : length(random);
    switch (next(random) % 12) {
    case 0:
        *nr = PICK(random, odd);
        arg[0] = UINT64_MAX; // of an ID or an option: none
        break;
    case 1:
        *nr = PICK(random, harmless);
        break;
    case 2: {
        const uint32_t list[] = {SYS_uname, SYS_time, SYS_times, SYS_sysinfo};
        *nr = PICK(random, list);
        arg[0] = pointer(random);
        break;
    }
    case 3: {
        const uint32_t list[] = {SYS_read, SYS_pread64, SYS_write, SYS_pwrite64};
        *nr = PICK(random, list);
        arg[0] = *nr == SYS_read || *nr == SYS_pread64 ? (uint64_t)fds[2] : descriptor(random);
        arg[1] = pointer(random);
        arg[2] = amount(random);
        arg[3] = next(random) % 65536;
        break;
    }
    case 4: {
        const uint32_t list[] = {SYS_fstat, SYS_lseek, SYS_fcntl};
        *nr = PICK(random, list);
        arg[0] = descriptor(random);
        arg[1] = *nr == SYS_fcntl   ? (uint64_t)(next(random) % 2 ? F_GETFD : F_GETFL)
                 : *nr == SYS_fstat ? pointer(random)
                                    : length(random);
        break;
    }
    case 5: {
        const uint32_t list[] = {SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_getcwd};
        *nr = PICK(random, list);
        arg[0] = *nr == SYS_getcwd || next(random) % 2 ? pointer(random) : (uint64_t) "/proc/self";
        arg[1] = *nr == SYS_access   ? next(random)
                 : *nr == SYS_getcwd ? amount(random)
                                     : pointer(random);
        arg[2] = amount(random);
        break;
    }
    case 6: {
        const uint32_t list[] = {SYS_newfstatat, SYS_statx, SYS_faccessat, SYS_readlinkat};
        *nr = PICK(random, list);
        arg[1] = next(random) % 2 ? nowhere(random) : (uint64_t) "/proc/self/exe";
        arg[2] = *nr == SYS_statx ? next(random) : pointer(random);
        arg[3] = amount(random);
        arg[4] = pointer(random);
        break;
    }
    case 7: {
        // Memory: nothing of the program's, though the whole of it is asked for now and then,
        // with the core's region in it.
        const uint32_t list[] = {SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap};
        const uint64_t sizes[] = {0, 4096, 1UL << 63, UINT64_MAX, -4096UL};
        *nr = PICK(random, list);
        arg[0] = next(random) % 2 ? region : nowhere(random);
        arg[1] = PICK(random, sizes);
        arg[2] = *nr == SYS_mremap ? PICK(random, sizes) : next(random) % 8;
        arg[3] = 0;
        break;
    }
    case 8:
        *nr = SYS_mmap;
        arg[0] = next(random) % 2 ? region : nowhere(random);
        arg[1] = next(random) % 2 ? 4096 : length(random) | 1UL << 63;
        arg[2] = next(random) % 8;
        arg[3] = MAP_PRIVATE | MAP_ANONYMOUS | (next(random) % 2 ? MAP_FIXED_NOREPLACE : 0);
        arg[4] = UINT64_MAX;
        arg[5] = 0;
        break;
    case 9: {
        *nr = next(random) % 2 ? SYS_rt_sigaction : SYS_sigaltstack;
        const uint64_t signals[] = {0, 1, 9, 11, 64, 65, 1000, 1 << 20, INT32_MAX, UINT64_MAX};
        arg[0] = *nr == SYS_rt_sigaction ? PICK(random, signals) : nowhere(random);
        arg[1] = *nr != SYS_rt_sigaction ? pointer(random) : next(random) % 2 ? region : 0;
        arg[2] = next(random) % 2 ? region : pointer(random);
        arg[3] = next(random) % 2 ? 8 : length(random);
        break;
    }
    case 10:
        *nr = SYS_futex;
        arg[0] = pointer(random);
        arg[1] = next(random) % 2 ? 129 : next(random) % 2; // wake, or a wait that a poller refuses
        arg[2] = next(random);
        break;
    default: {
        const uint32_t list[] = {SYS_poll,  SYS_epoll_wait, SYS_ioctl,    SYS_clock_gettime,
                                 SYS_close, SYS_prlimit64,  SYS_getrusage};
        *nr = PICK(random, list);
        if (*nr == SYS_close)
            arg[0] = 400 + next(random) % 2000; // the core's own are among them
        else if (*nr == SYS_prlimit64)
            arg[0] = 0, arg[2] = 0, arg[3] = pointer(random);
        else
            arg[0] = next(random) % 2 ? descriptor(random) : nowhere(random);
        break;
    }
    }
}

static uint32_t post(volatile struct mv_slot *slot, uint64_t *random, uint64_t arg[6])
{
    uint32_t nr;
    choose(random, &nr, arg);
    for (int i = 0; i < 6; i++)
        slot->arg[i] = arg[i];
    slot->site = site(random);
    slot->nr = nr;
    slot->state = MV_SLOT_POSTED;
    return nr;
}

// True if the answer to a request gives away what is the core's.
static bool gives_away(volatile const struct mv_slot *slot, uint32_t nr, const uint64_t arg[6])
{
    if (slot->state != MV_SLOT_ANSWERED)
        return false;
    if (nr == SYS_rt_sigaction)
        return arg[2] == region && slot->result == 0; // its third argument is written to
    bool names = nr == SYS_fcntl || nr == SYS_lseek || nr == SYS_fstat;
    return names && arg[0] == (uint64_t)core_fd && slot->result >= 0;
}

static void spoil_slot(volatile struct mv_slot *slot, uint64_t *random)
{
    switch (next(random) % 4) {
    case 0:
        slot->state = (uint32_t)(next(random) % 5 ? next(random) % 5 : next(random));
        break;
    case 1:
        slot->site = site(random);
        break;
    default:
        slot->arg[2 + next(random) % 4] = 0;
    }
}

static void spoil_frame(volatile struct mv_frame *frame, uint64_t *random)
{
    const uint64_t places[] = {(uint64_t)buffer, region, AK_ENTRY_PAGE, AK_VECTOR_PAGE,
                               AK_WINDOW(0),     0,      1UL << 47,     UINT64_MAX - 15};
    const uint64_t numbers[] = {SYS_getpid, SYS_getppid, 512, 100000, UINT64_MAX, SYS_rt_sigreturn};
    switch (next(random) % 6) {
    case 0:
        frame->rip = PICK(random, places);
        break;
    case 1:
        frame->rsp = PICK(random, places);
        break;
    case 2:
        frame->rflags = next(random);
        break;
    case 3:
        frame->ring = next(random);
        break;
    case 4:
        frame->rcx = frame->r11 = next(random);
        break;
    default:
        frame->rax = PICK(random, numbers);
    }
}

static void *fuzzer(void *arg)
{
    uint64_t random = (uint64_t)arg;
    victim = slot_of(own_window(random | 1UL << 63));
    volatile struct mv_slot *own = victim;
    ready++;
    while (ready < THREADS)
        ;
    for (long round = 0; round < rounds; round++) {
        uint64_t arg[6];
        uint32_t nr = post(own, &random, arg);
        for (int turn = 0; turn < 300 && own->state == MV_SLOT_POSTED; turn++)
            __builtin_ia32_pause();
        // Whatever these calls return: the partner looks at what is in the slot, and rewrites.
        if (spoiling) {
            if (next(&random) % 8 == 0)
                syscall(next(&random) % 2 ? SYS_getppid : SYS_sched_yield);
            continue;
        }
        given_away += gives_away(own, nr, arg);
        if (own->state != MV_SLOT_ANSWERED || next(&random) % 8 == 0)
            syscall(SYS_sched_yield); // then no answer is still on its way
        spoiling = round > rounds / 2;
    }
    stop = true;
    return NULL;
}

static void *spoiler(void *arg)
{
    uint64_t random = (uint64_t)arg;
    ready++;
    while (ready < THREADS || !spoiling)
        ;
    while (!stop) {
        if (!all)
            spoil_slot(victim, &random);
        else if (next(&random) % 64)
            spoil_slot(slot_of((int)(next(&random) % THREADS)), &random);
        else
            spoil_frame(frame_of((int)(next(&random) % THREADS)), &random);
    }
    return NULL;
}

// Ordinary calls with results that are known.
static long wrong_results(int file, int sequence, pid_t parent)
{
    static long next_number;
    char text[16];
    off_t at = (off_t)(random() % NUMBERS) * 8;
    char expected[16];
    snprintf(expected, sizeof(expected), "%07ld\n", (long)at / 8);
    long wrong = getppid() != parent;
    wrong += pread(file, text, 8, at) != 8 || memcmp(text, expected, 8) != 0;
    wrong += lseek(file, at, SEEK_SET) != at;
    wrong += read(file, text, 8) != 8 || memcmp(text, expected, 8) != 0;
    wrong += syscall(SYS_gettid) != getpid();
    // A call that takes place twice shows here.
    if (next_number == NUMBERS)
        next_number = lseek(sequence, 0, SEEK_SET);
    snprintf(expected, sizeof(expected), "%07ld\n", next_number++);
    wrong += read(sequence, text, 8) != 8 || memcmp(text, expected, 8) != 0;
    return wrong;
}

static int make_file(int fd)
{
    fd = dup2(memfd_create("numbers", 0), fd);
    for (int i = 0; i < NUMBERS; i++)
        dprintf(fd, "%07d\n", i);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int find_core_fd(void)
{
    char path[32], target[64];
    for (int fd = 3; fd < 1024; fd++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        long length = readlink(path, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = 0;
        if (strstr(target, "kvm-vm"))
            return fd;
    }
    return -1;
}

static uint64_t find_region(void)
{
    uint64_t start, found = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof(line), maps)) {
        char *name = strstr(line, "anon_inode:kvm-vcpu");
        if (name && sscanf(line, "%lx-", &start) == 1)
            found = start;
    }
    if (maps)
        fclose(maps);
    return found;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 91;
    all = strcmp(argv[1], "all") == 0;
    uint64_t seed = strtoull(argv[2], NULL, 0) * 0x9e3779b97f4a7c15 + 1;
    rounds = atol(argv[3]);
    alarm(60); // by default it ends the process: however spoiled this is, it ends
    region = find_region();
    core_fd = find_core_fd();
    make_pages();
    int file = make_file(FILE_FD), sequence = make_file(SEQUENCE_FD), pipes[2];
    fds[0] = memfd_create("target", 0);
    fds[1] = open("/dev/null", O_RDWR);
    fds[2] = open("/dev/zero", O_RDONLY);
    if (pipe2(pipes, O_NONBLOCK))
        return 92;
    fds[3] = pipes[1];
    dup2(1, RESULT_FD);
    dup2(fds[1], 1); // requests may mention it
    pthread_t threads[THREADS - 1];
    pthread_create(&threads[0], NULL, fuzzer, (void *)(seed >> 1));
    while (!victim && !stop)
        ;
    for (uint64_t i = 1; i < THREADS - 1; i++)
        pthread_create(&threads[i], NULL, spoiler, (void *)(seed + i));
    long wrong = 0, count = 0;
    pid_t parent = getppid();
    ready++;
    while (!stop) {
        wrong += wrong_results(file, sequence, parent);
        count++;
    }
    // What the slot still says would meet the threads' last calls.
    for (int window = 1; window < THREADS; window++)
        slot_of(window)->state = MV_SLOT_FREE;
    for (int i = 0; i < THREADS - 1; i++)
        pthread_join(threads[i], NULL);
    dprintf(RESULT_FD, "%s, ordinary calls %s, wrong %ld, given away %ld, changed %ld\n",
            region && core_fd >= 0 ? "found" : "not found", count ? "made" : "not made", wrong,
            given_away, changed_bytes());
    return wrong != 0;
}
