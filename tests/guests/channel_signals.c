// Proves that signals that come at any moment of calls, made in hot loops by several threads, do
// not disturb them, nor they the signals: every queued signal is handled exactly once, in order;
// every call gives its right result and leaves registers, flags, red zone and vector registers
// alone; calls that wait end with EINTR, or go on, as the handlers' flags say, and lose nothing.
// Arguments: for how many seconds (default 1), then anything if functions are overridden.
#include "guest.h"

#include <fcntl.h>
#include <link.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

// ---- One system call with everything that it must leave alone ----

struct state {
    uint64_t rax, rdi, rsi, rdx, r10, r8, r9; // 0: number and arguments
    uint64_t rbx, rbp, r12, r13, r14, r15;    // 56
    uint64_t flags;                           // 104
    uint64_t red_zone[16];                    // 112
    uint64_t rcx, r11, next;                  // 240
    uint32_t mxcsr, fcw;                      // 264
    uint8_t vector[16][32];                   // 272
};

void full_call(const struct state *in, struct state *out, long avx);
#define EACH(move, size)                                                                           \
    move(0, size) move(1, size) move(2, size) move(3, size) move(4, size) move(5, size)            \
        move(6, size) move(7, size) move(8, size) move(9, size) move(10, size) move(11, size)      \
            move(12, size) move(13, size) move(14, size) move(15, size)
#define LOAD_XMM(n, size) "movups 272+32*" #n "(%rdi), %xmm" #n "\n"
#define LOAD_YMM(n, size) "vmovups 272+32*" #n "(%rdi), %ymm" #n "\n"
#define STORE_XMM(n, size) "movups %xmm" #n ", 272+32*" #n "(%rcx)\n"
#define STORE_YMM(n, size) "vmovups %ymm" #n ", 272+32*" #n "(%rcx)\n"
#define FILL_RED(n, size) "mov 112+8*" #n "(%rdi), %rcx; mov %rcx, -8-8*" #n "(%rsp)\n"
#define STORE_RED(n, size) "mov -8-8*" #n "(%rsp), %rax; mov %rax, 112+8*" #n "(%rcx)\n"
// From the flags' loading on only moves, which leave them alone.
// clang-format off
__asm__(
    ".text\n"
    "full_call:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "sub $64, %rsp; mov %rsi, 8(%rsp); mov %rdx, 40(%rsp)\n"
    "stmxcsr 48(%rsp); fnstcw 52(%rsp)\n"
    "test %rdx, %rdx; jz 1f\n"
    EACH(LOAD_YMM, )
    "jmp 2f; 1:\n"
    EACH(LOAD_XMM, )
    "2:\n"
    "ldmxcsr 264(%rdi); fldcw 268(%rdi)\n"
    "push 104(%rdi); popfq\n"
    EACH(FILL_RED, )
    "mov 56(%rdi), %rbx; mov 64(%rdi), %rbp; mov 72(%rdi), %r12; mov 80(%rdi), %r13\n"
    "mov 88(%rdi), %r14; mov 96(%rdi), %r15; mov (%rdi), %rax; mov 16(%rdi), %rsi\n"
    "mov 24(%rdi), %rdx; mov 32(%rdi), %r10; mov 40(%rdi), %r8; mov 48(%rdi), %r9\n"
    "mov 8(%rdi), %rdi\n"
    "syscall\n"
    "3: mov %rax, 16(%rsp); mov %rcx, 24(%rsp); mov %r11, 32(%rsp); mov 8(%rsp), %rcx\n"
    "mov %rdi, 8(%rcx); mov %rsi, 16(%rcx); mov %rdx, 24(%rcx); mov %r10, 32(%rcx)\n"
    "mov %r8, 40(%rcx); mov %r9, 48(%rcx); mov %rbx, 56(%rcx); mov %rbp, 64(%rcx)\n"
    "mov %r12, 72(%rcx); mov %r13, 80(%rcx); mov %r14, 88(%rcx); mov %r15, 96(%rcx)\n"
    EACH(STORE_RED, )
    "pushfq; pop 104(%rcx); cld\n"
    "stmxcsr 264(%rcx); fnstcw 268(%rcx)\n"
    "cmpq $0, 40(%rsp); je 4f\n"
    EACH(STORE_YMM, )
    "vzeroupper; jmp 5f; 4:\n"
    EACH(STORE_XMM, )
    "5: ldmxcsr 48(%rsp); fldcw 52(%rsp)\n"
    "mov 16(%rsp), %rax; mov %rax, (%rcx); mov 24(%rsp), %rax; mov %rax, 240(%rcx)\n"
    "mov 32(%rsp), %rax; mov %rax, 248(%rcx); lea 3b(%rip), %rax; mov %rax, 256(%rcx)\n"
    "add $64, %rsp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");
// clang-format on

// ---- What goes wrong is counted, by kind ----

enum {
    RESULT,
    REGISTERS,
    FLAGS,
    RED_ZONE,
    VECTORS,
    CONTROL, // calls
    LOST,
    ORDER,
    CONTEXT,
    IN_HANDLER, // signals
    RESTART,
    DATA, // calls that wait
    KINDS
};
static const char *const names[KINDS] = {
    "results",          "registers",    "flags", "red zone",          "vector registers",
    "control words",    "signals lost", "order", "handler's context", "calls in handlers",
    "EINTR or restart", "data of pipes"};
static unsigned long wrong[KINDS];

static void check(int kind, bool right)
{
    if (!right)
        __atomic_add_fetch(&wrong[kind], 1, __ATOMIC_SEQ_CST);
}

// ---- Threads that signals are sent to ----

enum { CALLERS = 3, WAITERS = 3, TARGETS = CALLERS + WAITERS, QUEUED = 2 };

struct target {
    pthread_t thread;
    volatile pid_t tid;
    volatile unsigned long sent[QUEUED], handled[QUEUED];
    volatile unsigned long any, plain; // handlers run, those without SA_RESTART among them
    volatile unsigned long nested, depth;
    uint64_t random;
};

static struct target targets[TARGETS];
static __thread struct target *self;
static volatile bool stop;
static volatile int stretch = 1; // how many times longer waits are; handlers wait then, too
static volatile unsigned long alarms, from_outside, interrupted[8], completed[8];
static long avx;
static pid_t process, parent;
static int file;
static char file_path[] = "/tmp/channel-guest-XXXXXX";

static uint64_t draw(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

// A handler is entered from the program's code, wherever its thread has been in truth. What takes
// over functions, and what that calls in the AeroKernel, is interrupted as the original was.
#define KERNEL_BEGIN 0xffffffff80000000
static bool overridden;
static struct {
    uint64_t from, to;
} code[64];
static unsigned codes;

static int note_code(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size, (void)data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && header->p_flags & PF_X && codes < COUNT(code)) {
            code[codes].from = info->dlpi_addr + header->p_vaddr;
            code[codes].to = code[codes].from + header->p_memsz;
            codes++;
        }
    }
    return 0;
}

static bool is_code(uint64_t rip)
{
    for (unsigned i = 0; i < codes; i++)
        if (rip >= code[i].from && rip < code[i].to)
            return true;
    return overridden && rip >= KERNEL_BEGIN;
}

static void check_context(const ucontext_t *context)
{
    const greg_t *regs = context->uc_mcontext.gregs;
    char here;
    check(CONTEXT, is_code((uint64_t)regs[REG_RIP]));
    // All handlers run on the stack that they have interrupted, below its red zone.
    check(CONTEXT, (char *)regs[REG_RSP] - &here >= 128 && (char *)regs[REG_RSP] - &here < 65536);
}

static void mess_up(void)
{
    uint32_t mxcsr;
    uint16_t fcw;
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(fcw));
    check(CONTEXT, (mxcsr & 0xffc0) == 0x1f80 && fcw == 0x37f);
    volatile double x = 1.1;
    x = x * x / 3;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm15, %%xmm15"
                     :
                     :
                     : "xmm0", "xmm7", "xmm15");
}

static void calls_in_handler(void)
{
    int saved = errno;
    char byte = 0;
    uint64_t flags;
    __asm__ volatile("pushfq; pop %0" : "=r"(flags));
    check(CONTEXT, !(flags & 0x400)); // the direction flag is clear in a handler
    check(IN_HANDLER, getpid() == process);
    check(IN_HANDLER, pread(file, &byte, 1, 7) == 1 && byte == 'h');
    check(IN_HANDLER, syscall(SYS_gettid) == (self ? self->tid : process));
    check(IN_HANDLER, access("/nonexistent/file", F_OK) == -1 && errno == ENOENT);
    if (stretch > 1 && self && !self->nested)
        pass_ms(1); // for another to come meanwhile
    errno = saved;
}

static void on_queued(int sig, siginfo_t *info, void *context)
{
    int which = sig - SIGRTMIN - 1;
    check_context(context);
    self->depth++;
    self->nested += self->depth > 1;
    self->any++;
    if (which == 1)
        self->plain++;
    // Before another one can come, since the signal itself stays blocked.
    check(ORDER, info->si_value.sival_int == (int)self->handled[which]);
    check(ORDER, info->si_pid == process && info->si_code == SI_QUEUE);
    self->handled[which]++;
    mess_up();
    calls_in_handler();
    self->depth--;
}

// Another signal may come in the middle of this one, and it of itself.
static void on_alarm(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    check_context(context);
    if (self)
        self->any++;
    check(CONTEXT, info->si_code == SI_KERNEL);
    mess_up();
    calls_in_handler();
    __atomic_add_fetch(&alarms, 1, __ATOMIC_SEQ_CST);
}

static void on_outside(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    check_context(context);
    if (self)
        self->any++;
    check(CONTEXT, info->si_code == SI_QUEUE && info->si_pid != process);
    calls_in_handler();
    __atomic_add_fetch(&from_outside, 1, __ATOMIC_SEQ_CST);
}

// ---- Calls that do not wait ----

static void one_call(uint64_t *random)
{
    struct state in, out;
    struct stat status;
    char text[300];
    for (unsigned i = 0; i < sizeof(in); i += 8)
        memcpy((char *)&in + i, (uint64_t[]){draw(random)}, 8);
    // All flags that a program can set freely, among them the direction.
    in.flags = (in.flags & 0xcd5) | 0x202;
    in.mxcsr = (in.mxcsr & 0xe000) | 0x1f80;
    in.fcw = (in.fcw & 0xc00) | 0x37f;
    memset(text, 0, sizeof(text));
    int64_t expected;
    switch (draw(random) % 14) {
    case 0:
        in.rax = SYS_getppid, expected = parent;
        break;
    case 1:
        in.rax = SYS_getuid, expected = getuid();
        break;
    case 2:
        in.rax = SYS_gettid, expected = self->tid;
        break;
    case 3:
        in.rax = SYS_lseek, in.rdi = file, in.rsi %= 26, in.rdx = SEEK_SET, expected = in.rsi;
        break;
    case 4:
        in.rax = SYS_pread64, in.rdi = file, in.rsi = (uint64_t)text, in.rdx = 5, in.r10 %= 30;
        expected = in.r10 > 26 ? 0 : in.r10 > 21 ? 26 - (int64_t)in.r10 : 5;
        break;
    case 5:
        in.rax = SYS_fstat, in.rdi = file, in.rsi = (uint64_t)&status, expected = 0;
        break;
    case 6:
        in.rax = SYS_stat, in.rdi = (uint64_t)file_path, in.rsi = (uint64_t)&status, expected = 0;
        break;
    case 7:
        in.rax = SYS_access, in.rdi = (uint64_t) "/nonexistent", in.rsi = F_OK, expected = -ENOENT;
        break;
    case 8:
        in.rax = SYS_fcntl, in.rdi = file, in.rsi = F_GETFD, expected = FD_CLOEXEC;
        break;
    case 9:
        in.rax = SYS_getcwd, in.rdi = (uint64_t)text, in.rsi = sizeof(text), expected = 2;
        break;
    case 10:
        in.rax = 5000, expected = -ENOSYS;
        break;
    case 11:
        in.rax = SYS_uname, in.rdi = 8, expected = -EFAULT;
        break;
    case 12:
        in.rax = SYS_lseek, in.rdi = 12345, expected = -EBADF;
        break;
    default:
        in.rax = SYS_sched_yield, expected = 0;
        break;
    }
    memset(&out, 0x5a, sizeof(out));
    full_call(&in, &out, avx);
    check(RESULT, (int64_t)out.rax == expected);
    if (in.rax == SYS_pread64)
        check(RESULT,
              memcmp(text, "abcdefghijklmnopqrstuvwxyz" + (expected ? in.r10 : 0), expected) == 0);
    else if (in.rax == SYS_getcwd)
        check(RESULT, strcmp(text, "/") == 0);
    else if (in.rax == SYS_fstat || in.rax == SYS_stat)
        check(RESULT, status.st_size == 26);
    check(REGISTERS, memcmp(&in.rdi, &out.rdi, offsetof(struct state, flags) - 8) == 0);
    check(REGISTERS, out.rcx == out.next);
    check(FLAGS, (out.flags & 0xcd5) == (in.flags & 0xcd5) && (out.r11 & 0xfd5) == in.flags - 2);
    check(RED_ZONE, memcmp(in.red_zone, out.red_zone, sizeof(in.red_zone)) == 0);
    for (int i = 0; i < 16; i++)
        check(VECTORS, memcmp(in.vector[i], out.vector[i], avx ? 32 : 16) == 0);
    check(CONTROL, (in.mxcsr & 0xffc0) == (out.mxcsr & 0xffc0) && (uint16_t)out.fcw == in.fcw);
}

static void *calls(void *arg)
{
    self = arg;
    self->tid = gettid();
    while (!stop) {
        for (int i = 0; i < 50; i++)
            one_call(&self->random);
        void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(RESULT, page != MAP_FAILED && *(volatile char *)page == 0);
        check(RESULT, munmap(page, PAGE) == 0);
    }
    return NULL;
}

// ---- Calls that wait ----

enum { READ, WRITE, FUTEX, SLEEP, POLL, EPOLL, FUTEX_TIMEOUT };
static const char *const waits[] = {
    "read", "write", "futex", "nanosleep", "poll", "epoll_wait", "futex with a timeout"};
static int to_waiter[WAITERS][2], from_waiter[WAITERS][2];
static uint8_t full[PAGE]; // what fills such a pipe: 0 to 255 again and again
static uint32_t futex_word[WAITERS];
static volatile int waiting = WAITERS;
static int epoll;

// A call that goes on after a handler with SA_RESTART may end with EINTR only after one without;
// the others after any, and epoll_wait even if another thread took the signal away.
static void judge(int which, long result, unsigned long any, unsigned long plain)
{
    if (result == -1 && errno == EINTR) {
        check(RESTART,
              which == EPOLL || (which <= FUTEX ? self->plain != plain : self->any != any));
        __atomic_add_fetch(&interrupted[which], 1, __ATOMIC_SEQ_CST);
    } else {
        __atomic_add_fetch(&completed[which], 1, __ATOMIC_SEQ_CST);
    }
}

static void *waiter(void *arg)
{
    self = arg;
    self->tid = gettid();
    int number = (int)(self - targets) - CALLERS;
    uint8_t expected = 0;
    while (!stop) {
        int longer = stretch;
        struct timespec time = {.tv_nsec = 1 + (long)(draw(&self->random) % 3000000) * longer};
        struct epoll_event event;
        int which = (int)(draw(&self->random) % COUNT(waits));
        for (int i = 0; i < 5; i++)
            one_call(&self->random);
        unsigned long any = self->any, plain = self->plain;
        long result;
        errno = 0;
        if (which == READ) {
            uint8_t byte = 0;
            result = read(to_waiter[number][0], &byte, 1);
            judge(which, result, any, plain);
            check(DATA,
                  result == -1 ? errno == EINTR : result == 1 && (byte == expected++ || stop));
        } else if (which == WRITE) {
            result = write(from_waiter[number][1], full, PAGE); // waits while anything is there
            judge(which, result, any, plain);
            check(DATA, result == -1 ? errno == EINTR : result == PAGE);
        } else if (which == FUTEX) {
            uint32_t value = __atomic_load_n(&futex_word[number], __ATOMIC_SEQ_CST);
            result = syscall(SYS_futex, &futex_word[number], FUTEX_WAIT, value, NULL, NULL, 0);
            judge(which, result, any, plain);
            check(RESULT, result == 0 || errno == EINTR || errno == EAGAIN);
        } else if (which == FUTEX_TIMEOUT) {
            uint32_t word = 0;
            result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
            judge(which, result, any, plain);
            check(RESULT, result == -1 && (errno == EINTR || errno == ETIMEDOUT));
        } else if (which == SLEEP) {
            struct timespec left = {.tv_nsec = 7};
            result = nanosleep(&time, &left);
            judge(which, result, any, plain);
            // More may be left than was asked for, by the slack of the thread's timers.
            check(RESULT, result == 0 || (errno == EINTR && left.tv_nsec < 2 * 3000000 * longer));
        } else if (which == POLL) {
            result = poll(NULL, 0, (int)(draw(&self->random) % 4) * longer);
            judge(which, result, any, plain);
            check(RESULT, result == 0 || errno == EINTR);
        } else {
            result = epoll_wait(epoll, &event, 1, (int)(draw(&self->random) % 4) * longer);
            judge(which, result, any, plain);
            check(RESULT, result == 0 || errno == EINTR);
        }
    }
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

// Gives those who wait what they wait for, and takes what they write, now and then.
static void *feeder(void *arg)
{
    static uint8_t next[WAITERS], expected[WAITERS];
    uint64_t random = 4711;
    while (!stop) {
        for (int i = 0; i < WAITERS; i++) {
            uint8_t bytes[PAGE / 8];
            int there = 1;
            NEED(ioctl(to_waiter[i][0], FIONREAD, &there) == 0);
            if (!there && draw(&random) % 4 == 0 && write(to_waiter[i][1], &next[i], 1) == 1)
                next[i]++;
            long count = read(from_waiter[i][0], bytes, draw(&random) % sizeof(bytes));
            for (long j = 0; j < count; j++)
                check(DATA, bytes[j] == expected[i]++);
            __atomic_add_fetch(&futex_word[i], 1, __ATOMIC_SEQ_CST);
            syscall(SYS_futex, &futex_word[i], FUTEX_WAKE, 1, NULL, NULL, 0);
        }
        struct timespec time = {.tv_nsec = (long)(draw(&random) % 2000000) * stretch};
        nanosleep(&time, NULL);
    }
    return arg;
}

// ---- Signals from another process, as many as it is asked for ----

static unsigned long outside_sent;

static pid_t start_outside(int control[2], int report[2])
{
    NEED(pipe(control) == 0 && pipe(report) == 0);
    pid_t child = fork();
    NEED(child >= 0);
    if (child)
        return child;
    char byte;
    close(control[1]);
    while (read(control[0], &byte, 1) == 1)
        for (int i = 0; i < 10; i++) {
            union sigval value = {.sival_int = i};
            while (sigqueue(process, SIGRTMIN + 3, value))
                pass_ms(1); // the queue is full
            outside_sent++;
        }
    NEED(write(report[1], &outside_sent, sizeof(outside_sent)) == sizeof(outside_sent));
    _exit(0);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void send_one(struct target *target, int which)
{
    siginfo_t info = {.si_signo = SIGRTMIN + 1 + which, .si_code = SI_QUEUE};
    info.si_pid = process;
    info.si_uid = getuid();
    info.si_value.sival_int = (int)target->sent[which];
    while (syscall(SYS_rt_tgsigqueueinfo, process, target->tid, info.si_signo, &info)) {
        NEED(errno == EAGAIN); // the queue is full
        pass_ms(1);
    }
    target->sent[which]++;
}

static bool all_handled(void)
{
    for (int i = 0; i < TARGETS; i++)
        for (int which = 0; which < QUEUED; which++)
            if (targets[i].handled[which] != targets[i].sent[which])
                return false;
    return from_outside == outside_sent;
}

static bool all_seen(void)
{
    unsigned long nested = 0;
    for (int i = 0; i < TARGETS; i++)
        nested += targets[i].nested;
    for (unsigned i = 0; i < COUNT(waits); i++)
        if (!interrupted[i] || !completed[i])
            return false;
    return nested && alarms && targets[0].handled[0] && targets[0].handled[1];
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    int control[2], outside_report[2];
    uint64_t random = 88172645463325252;
    overridden = argc > 2;
    process = getpid();
    parent = getppid();
    avx = __builtin_cpu_supports("avx");
    dl_iterate_phdr(note_code, NULL);
    NEED(chdir("/") == 0);
    file = mkostemp(file_path, O_CLOEXEC);
    NEED(file >= 0 && write(file, "abcdefghijklmnopqrstuvwxyz", 26) == 26);
    epoll = epoll_create1(0);
    pid_t outside = start_outside(control, outside_report);

    // Each blocks itself alone, so others nest; the alarm not even that.
    handle(SIGRTMIN + 1, on_queued, SA_RESTART);
    handle(SIGRTMIN + 2, on_queued, 0);
    handle(SIGRTMIN + 3, on_outside, SA_RESTART);
    handle(SIGALRM, on_alarm, SA_RESTART | SA_NODEFER);
    for (unsigned i = 0; i < sizeof(full); i++)
        full[i] = (uint8_t)i;
    for (int i = 0; i < TARGETS; i++) {
        targets[i].random = 0x9e3779b97f4a7c15 * (i + 1);
        if (i >= CALLERS) {
            int number = i - CALLERS;
            NEED(pipe2(to_waiter[number], 0) == 0 && pipe2(from_waiter[number], 0) == 0);
            NEED(fcntl(to_waiter[number][1], F_SETFL, O_NONBLOCK) == 0);
            NEED(fcntl(from_waiter[number][0], F_SETFL, O_NONBLOCK) == 0);
            NEED(fcntl(from_waiter[number][1], F_SETPIPE_SZ, PAGE) >= 0);
            NEED(write(from_waiter[number][1], full, sizeof(full)) == sizeof(full));
        }
        NEED(pthread_create(&targets[i].thread, NULL, i < CALLERS ? calls : waiter, &targets[i]) ==
             0);
    }
    pthread_t feed;
    sigset_t all, before;
    sigfillset(&all);
    NEED(pthread_sigmask(SIG_BLOCK, &all, &before) == 0); // not for the feeder
    NEED(pthread_create(&feed, NULL, feeder, NULL) == 0);
    NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    for (int i = 0; i < TARGETS; i++)
        while (!targets[i].tid)
            sched_yield();
    // The alarm and what comes from outside may hit any thread.
    struct itimerval timer = {{0, 1700}, {0, 1700}}, none = {0};
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);

    double begin = now(), end = begin + seconds;
    unsigned long bursts = 0;
    for (;;) {
        double time = now();
        if (time > end && (all_seen() || time > end + 20))
            break;
        if (time > end) // on a busy machine short waits are over before anything can happen
            stretch = 50;
        struct target *target = &targets[draw(&random) % TARGETS];
        int count = draw(&random) % 4 ? 1 : (int)(draw(&random) % 6);
        for (int i = 0; i < count; i++)
            send_one(target, (int)(draw(&random) % QUEUED));
        if (bursts++ % 16 == 0)
            NEED(write(control[1], "x", 1) == 1);
        if (draw(&random) % 8 == 0) {
            struct timespec pause = {.tv_nsec = (long)(draw(&random) % 1000000)};
            nanosleep(&pause, NULL);
        } else if (draw(&random) % 4 == 0) {
            sched_yield();
        }
    }
    NEED(close(control[1]) == 0);
    while (read(outside_report[0], &outside_sent, sizeof(outside_sent)) == -1)
        NEED(errno == EINTR);
    for (int ms = 0; ms < 20000 && !all_handled(); ms++)
        pass_ms(1);
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    bool seen = all_seen();
    stop = true;
    // It minds what it takes, and must not be in the middle of that when others take it.
    NEED(pthread_join(feed, NULL) == 0);
    while (waiting) { // whoever still waits is let go
        for (int i = 0; i < WAITERS; i++) {
            char drained[PAGE];
            __atomic_add_fetch(&futex_word[i], 1, __ATOMIC_SEQ_CST);
            syscall(SYS_futex, &futex_word[i], FUTEX_WAKE, 1, NULL, NULL, 0);
            (void)!read(from_waiter[i][0], drained, sizeof(drained));
            (void)!write(to_waiter[i][1], "x", 1);
        }
        pass_ms(1);
    }
    for (int i = 0; i < TARGETS; i++)
        NEED(pthread_join(targets[i].thread, NULL) == 0);
    int status;
    while (waitpid(outside, &status, 0) == -1)
        NEED(errno == EINTR);
    for (int i = 0; i < TARGETS; i++)
        for (int which = 0; which < QUEUED; which++)
            check(LOST, targets[i].handled[which] == targets[i].sent[which]);
    check(LOST, from_outside == outside_sent);
    unlink(file_path);
    for (int i = 0; i < KINDS; i++)
        say("wrong", "%s: %lu", names[i], wrong[i]);
    say("everything has happened", "%s", yes(seen));
    for (unsigned i = 0; i < COUNT(waits) && !seen; i++)
        say(waits[i], "interrupted %s, completed %s", yes(interrupted[i]), yes(completed[i]));
    return 0;
}
