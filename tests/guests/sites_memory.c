// Proves that places which make many system calls go on behaving like the instruction whatever
// happens to their memory: when it is protected, forbidden, taken away in part, read back from its
// file or left behind natively, while others run through it; and that the call leaves exactly the
// registers and flags that SYSCALL leaves. Argument: the name of one trial; "views" runs only when
// asked for.
#include "sites.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/time.h>

#ifndef PR_SET_MDWE // Linux 6.3
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

typedef long call(long nr, long a, long b, long c, long d, long e, long f);

// nr and arguments as a function's, then: syscall; cmp $-4095, %rax; ret. The SYSCALL is at
// at + CALL_SYSCALL.
enum { CALL_SYSCALL = 23, CALL_BYTES = 32 };
static void emit_call(char *at)
{
    memcpy(at,
           "\x48\x89\xf8\x48\x89\xf7\x48\x89\xd6\x48\x89\xca\x4d\x89\xc2\x4d\x89\xc8"
           "\x4c\x8b\x4c\x24\x08\x0f\x05\x48\x3d\x01\xf0\xff\xff\xc3",
           CALL_BYTES);
}

// RCX and R11 have the address behind the call and the flags.
static void trial_rcx(void)
{
    unsigned long wrong = 0;
    area = new_area();
    for (unsigned i = 0; i < COUNT(shapes); i++) {
        char *at = area + 64 * i;
        memcpy(at, "\xb8\x6e\x00\x00\x00\x0f\x05", 7);
        memcpy(at + 7, shapes[i].bytes, (size_t)shapes[i].length);
        memcpy(at + 7 + shapes[i].length, "\x48\x89\xca\xc3", 4); // mov %rcx, %rdx; ret
    }
    seal(area);
    for (unsigned i = 0; i < COUNT(shapes); i++) {
        char *at = area + 64 * i;
        long first = ((code *)at)(0).flags;
        for (int j = 0; j < HOT; j++)
            wrong += ((code *)at)(0).flags != first;
    }
    say("RCX", "wrong %lu", wrong);
}

// Memory of which the core has thought that it goes, but it has stayed.
static void trial_refused(void)
{
    unsigned long wrong = 0;
    area = new_area();
    char *at = emit(area + PAGE - 7, &shapes[0], NULL);
    NEED(at > area + PAGE);
    seal(area);
    wrong += run(area + PAGE - 7, HOT);
    void *there = mmap(area + PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, -1, 0);
    say("refused", "%s", outcome((long)there));
    pid_t child = fork(); // everything is looked up again
    if (child == 0)
        _exit(0);
    wait_and_say("refused", child);
    wrong += run(area + PAGE - 7, HOT);
    say("refused", "wrong %lu", wrong);
}

// Written to after it could not be read.
static void trial_unreadable(void)
{
    unsigned long different = 0;
    static char before[PAGE];
    char *behind;
    area = new_area();
    emit(area, &shapes[0], &behind);
    memcpy(before, area, PAGE);
    seal(area);
    unsigned long wrong = run(area, HOT);
    NEED(mprotect(area, AREA, PROT_NONE) == 0);
    NEED(mprotect(area, AREA, PROT_READ | PROT_WRITE) == 0);
    for (unsigned i = 0; i < PAGE; i++)
        different += before[i] != area[i];
    memcpy(behind + 2, "\x01\x00\x00\x00", 4); // cmp $1, %rax
    seal(area);
    wrong += run(area, 1);
    long flags = ((code *)area)(0).flags;
    say("unreadable", "wrong %lu, different %lu, below %s", wrong, different, yes(flags & 1));
}

// What /proc/self/maps says of an address.
static void say_mapping(const char *name, const char *at)
{
    char line[512], access[5] = "none";
    unsigned long start, end;
    FILE *maps = fopen("/proc/self/maps", "r");
    NEED(maps);
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx %4s", &start, &end, access) == 3 && start <= (unsigned long)at &&
            end > (unsigned long)at)
            break;
    fclose(maps);
    say(name, "%s", access);
}

static void filter_self(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

// The program goes on natively (it puts a filter on itself) while its code cannot be executed.
static void trial_left(void)
{
    area = new_area();
    emit_call(area);
    emit(area + 64, &shapes[0], NULL);
    seal(area);
    unsigned long wrong = run(area + 64, HOT);
    NEED(mprotect(area, AREA, PROT_READ) == 0);
    filter_self();
    say_mapping("left", area);
    seal(area);
    wrong += run(area + 64, HOT);
    say("left", "wrong %lu", wrong);
}

static void entry_behind(char *entry, const char *behind)
{
    memcpy(entry, "\x48\x89\xf8\xe9", 4); // mov %rdi, %rax; jmp behind
    int distance = (int)(behind - (entry + 8));
    memcpy(entry + 4, &distance, 4);
}

// Whoever comes to the address behind, when code can be changed no more; then natively.
static void trial_sealed(void)
{
    unsigned long wrong = 0;
    char *behind;
    area = new_area();
    emit(area, &shapes[0], &behind);
    entry_behind(area + 64, behind);
    emit(area + 128, &shapes[1], &behind);
    entry_behind(area + 192, behind);
    seal(area);
    wrong += run(area, HOT) + run(area + 128, HOT);
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0))
        say("missing", "PR_SET_MDWE");
    for (int i = 0; i < 32; i++)
        wrong += ((code *)(area + 64))(i).result != i;
    wrong += run(area, HOT);
    filter_self();
    for (int i = 0; i < 32; i++)
        wrong += ((code *)(area + 192))(i).result != i;
    wrong += run(area, HOT) + run(area + 128, HOT);
    say("sealed", "wrong %lu", wrong);
}

// Where a fault was.
static sigjmp_buf back;
static volatile long fault_rip, fault_rax, fault_address;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig;
    fault_rip = uc->uc_mcontext.gregs[REG_RIP];
    fault_rax = uc->uc_mcontext.gregs[REG_RAX];
    fault_address = (long)info->si_addr;
    siglongjmp(back, 1);
}

// The page goes that the instruction behind the call lies in.
static void trial_half(void)
{
    handle(SIGSEGV, on_fault, 0);
    for (int before = 2; before < 8; before++) {
        area = new_area();
        char *at = area + PAGE - before - 7;
        emit(at, &shapes[0], NULL);
        seal(area);
        unsigned long wrong = run(at, HOT);
        NEED(munmap(area + PAGE, PAGE) == 0);
        if (sigsetjmp(back, 1) == 0)
            run(at, 1);
        say("half", "%d: wrong %lu, at %ld, called %s, address %ld", before, wrong,
            fault_rip - (long)at, yes(fault_rax == parent), fault_address - (long)at);
    }
}

// One page, or both, is read from its file again.
static void trial_again(void)
{
    for (int before = 0; before < 8; before++) {
        char *text = new_area();
        char *at = text + PAGE - before - 7;
        emit(at, &shapes[0], NULL);
        int fd = memfd_create("code", 0);
        NEED(fd >= 0 && write(fd, text, 4 * PAGE) == 4 * PAGE);
        area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        NEED(area != MAP_FAILED);
        at = area + (at - text);
        unsigned long wrong = run(at, HOT);
        NEED(madvise(area + PAGE, PAGE, MADV_DONTNEED) == 0);
        wrong += run(at, HOT);
        NEED(madvise(area, 2 * PAGE, MADV_DONTNEED) == 0);
        wrong += run(at, HOT);
        say("again", "%d: wrong %lu", before, wrong);
    }
}

// Calls whose answer tells who has made them, while the code is allowed to be changed and is not.
enum { THREADS = 3 };
static volatile bool stop;
static unsigned long wrong_there;

static char *volatile asked;

static void *ask_for_stack(void *arg)
{
    unsigned long wrong = 0;
    char memory[65536];
    stack_t own = {.ss_sp = memory, .ss_size = sizeof(memory)}, seen;
    NEED(sigaltstack(&own, NULL) == 0);
    while (!stop) {
        memset(&seen, 0, sizeof(seen));
        wrong += ((call *)asked)(SYS_sigaltstack, 0, (long)&seen, 0, 0, 0, 0) != 0 ||
                 seen.ss_sp != memory;
    }
    own.ss_flags = SS_DISABLE;
    NEED(sigaltstack(&own, NULL) == 0);
    __atomic_add_fetch(&wrong_there, wrong, __ATOMIC_SEQ_CST);
    return arg;
}

static void trial_toggled(void)
{
    pthread_t threads[THREADS];
    asked = area = new_area();
    emit_call(area);
    seal(area);
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, ask_for_stack, NULL) == 0);
    for (int i = 0; i < 300; i++) {
        NEED(mprotect(area, AREA, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
        seal(area);
        for (int j = 0; j < 200; j++)
            getppid();
    }
    stop = true;
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
    say("toggled", "wrong %lu", wrong_there);
}

// The same while somebody comes to the address behind, until the place is given up.
static void trial_abandoned(void)
{
    enum { PLACES = 100, LINE = 64 };
    pthread_t threads[THREADS];
    unsigned long wrong = 0;
    asked = area = new_area();
    for (int i = 0; i < PLACES; i++) {
        char *at = area + 2 * LINE * i;
        emit_call(at);
        entry_behind(at + LINE, at + CALL_SYSCALL + 2);
    }
    seal(area);
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, ask_for_stack, NULL) == 0);
    for (int i = 0; i < PLACES; i++) {
        asked = area + 2 * LINE * i;
        for (int j = 0; j < HOT; j++)
            wrong += ((call *)asked)(SYS_getppid, 0, 0, 0, 0, 0, 0) != parent;
        for (int j = 0; j < 16; j++)
            wrong += ((code *)(asked + LINE))(j).result != j;
    }
    stop = true;
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
    say("abandoned", "wrong %lu", wrong + wrong_there);
}

// The instruction behind a call is changed while the call waits.
static int pipes[2];

static _Atomic pid_t waiter;

static void *wait_for_byte(void *arg)
{
    char byte;
    waiter = gettid();
    wrong_there = (unsigned long)((call *)area)(SYS_read, pipes[0], (long)&byte, 1, 0, 0, 0);
    return arg;
}

static void trial_patched(void)
{
    pthread_t thread;
    unsigned long wrong = 0;
    NEED(pipe(pipes) == 0);
    area = new_area();
    emit_call(area);
    // mov %rax, %rdx; mov %rdx, %rax; ret
    memcpy(area + CALL_SYSCALL + 2, "\x48\x89\xc2\x48\x89\xd0\xc3", 7);
    seal(area);
    for (int i = 0; i < HOT; i++)
        wrong += ((call *)area)(SYS_getppid, 0, 0, 0, 0, 0, 0) != parent;
    NEED(pthread_create(&thread, NULL, wait_for_byte, NULL) == 0);
    for (int asleep = 0; asleep < 200;) // it may sleep for other reasons before
        asleep = waiter && thread_state(waiter) == 'S' ? asleep + 1 : 0;
    NEED(mprotect(area, AREA, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    memcpy(area + CALL_SYSCALL + 2, "\x6a\x07\x5a", 3); // push $7; pop %rdx
    seal(area);
    NEED(write(pipes[1], "", 1) == 1);
    NEED(pthread_join(thread, NULL) == 0);
    say("patched", "wrong %lu, result %lu", wrong, wrong_there);
}

// The first instruction of a page of which only Linux knows that it may be executed.
static void trial_implied(void)
{
    char memory[65536];
    stack_t own = {.ss_sp = memory, .ss_size = sizeof(memory)}, seen = {0};
    NEED(sigaltstack(&own, NULL) == 0);
    NEED(personality(READ_IMPLIES_EXEC) >= 0);
    area = new_area();
    emit_call(area + PAGE - CALL_SYSCALL);
    NEED(mprotect(area, PAGE, PROT_READ | PROT_EXEC) == 0);
    long result =
        ((call *)(area + PAGE - CALL_SYSCALL))(SYS_sigaltstack, 0, (long)&seen, 0, 0, 0, 0);
    say("implied", "%ld, own %s", result, yes(seen.ss_sp == memory));
}

// Prefixes that SYSCALL ignores.
static void trial_prefixes(void)
{
    static const char prefixes[] = "\x48\x40\x66\x2e\x3e\x64\x65\x67\xf2\xf3";
    for (unsigned i = 0; i < sizeof(prefixes) - 1; i++) {
        area = new_area();
        memcpy(area, "\xb8\x6e\x00\x00\x00", 5);
        area[5] = prefixes[i];
        memcpy(area + 6, "\x0f\x05\x48\x3d\x01\xf0\xff\xff\xc3", 9);
        seal(area);
        unsigned long wrong = 0;
        for (int j = 0; j < HOT; j++)
            wrong += ((code *)area)(0).result != parent;
        say("prefix", "%02x: wrong %lu", (unsigned char)prefixes[i], wrong);
    }
}

// Flags before the call are the flags behind it, and R11.
static void trial_flags(void)
{
    enum { CF = 1, DF = 0x400, NT = 0x4000, AC = 0x40000, ID = 0x200000 };
    static const long sets[] = {0, CF, DF, AC, ID, NT, CF | DF | AC | ID | NT};
    area = new_area();
    // push %rdi; popfq; mov $getppid, %eax; syscall; mov %rax, %rcx; pushfq; pop %rdx; push $0;
    // popfq; mov %r11, %rax; ret
    memcpy(area,
           "\x57\x9d\xb8\x6e\x00\x00\x00\x0f\x05\x48\x89\xc1\x9c\x5a\x6a\x00\x9d\x4c\x89\xd8\xc3",
           21);
    seal(area);
    for (unsigned i = 0; i < COUNT(sets); i++) {
        struct pair first = ((code *)area)(sets[i] | 0x202);
        unsigned long wrong = 0;
        for (int j = 0; j < HOT; j++) {
            struct pair now = ((code *)area)(sets[i] | 0x202);
            wrong += now.flags != first.flags || now.result != first.result;
        }
        say("flags", "%lx: then %lx, R11 %lx, wrong %lu", sets[i], first.flags, first.result,
            wrong);
    }
}

// The stack goes with a call that is followed by RET.
static char stack_of_handler[65536];

static void trial_stackless(void)
{
    stack_t own = {.ss_sp = stack_of_handler, .ss_size = sizeof(stack_of_handler)};
    NEED(sigaltstack(&own, NULL) == 0);
    handle(SIGSEGV, on_fault, SA_ONSTACK);
    area = new_area();
    char *stack = new_area();
    // push %rbx; mov %rsp, %rbx; mov %rsi, %rsp; call 1f; mov %rbx, %rsp; pop %rbx; ret
    // 1: mov %rdx, %rsi; mov %ecx, %edx; mov $mprotect, %eax; syscall; ret
    static const char text[] = "\x53\x48\x89\xe3\x48\x89\xf4\xe8\x05\x00\x00\x00"
                               "\x48\x89\xdc\x5b\xc3"
                               "\x48\x89\xd6\x89\xca\xb8\x0a\x00\x00\x00\x0f\x05\xc3";
    memcpy(area, text, sizeof(text) - 1);
    memset(area + sizeof(text) - 1, 0xcc, 64);
    seal(area);
    typedef long protect(void *page, char *stack, long size, long prot);
    unsigned long wrong = 0;
    for (int i = 0; i < HOT; i++)
        wrong += ((protect *)area)(stack, stack + PAGE - 64, PAGE, PROT_READ | PROT_WRITE) != 0;
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0)
            ((protect *)area)(stack, stack + PAGE - 64, PAGE, PROT_NONE);
        say("stackless", "wrong %lu, at %ld, address %ld, result %ld", wrong,
            fault_rip - (long)area, fault_address - (long)stack, fault_rax);
        NEED(mprotect(stack, PAGE, PROT_READ | PROT_WRITE) == 0);
    }
}

// A private view of memory that is written to through another.
static void trial_views(void)
{
    char *text = new_area();
    int fd = memfd_create("code", 0);
    emit(text, &shapes[0], NULL);
    NEED(fd >= 0 && write(fd, text, PAGE) == PAGE);
    char *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    area = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    NEED(writable != MAP_FAILED && area != MAP_FAILED);
    unsigned long wrong = run(area, HOT);
    writable[1] = 0x27; // getpid
    for (int i = 0; i < HOT; i++)
        wrong += ((code *)area)(0).result != getpid();
    say("views", "wrong %lu", wrong);
}

// Where signals find the program.
static unsigned long known[64][2], strange, met;
static unsigned known_count;
static char *behind_shape[COUNT(shapes)];

static void on_alarm(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned long rip = (unsigned long)registers[REG_RIP];
    met++;
    for (unsigned i = 0; i < COUNT(shapes); i++) // where SYSCALL has just been
        strange += rip == (unsigned long)behind_shape[i] && registers[REG_RCX] != (long)rip;
    for (unsigned i = 0; i < known_count; i++)
        if (rip >= known[i][0] && rip < known[i][1])
            return;
    strange++;
}

static void trial_found(void)
{
    struct itimerval timer = {{0, 500}, {0, 500}}, none = {0};
    char line[512], access[5];
    area = new_area();
    for (unsigned i = 0; i < COUNT(shapes); i++)
        emit(area + 64 * i, &shapes[i], &behind_shape[i]);
    seal(area);
    FILE *maps = fopen("/proc/self/maps", "r");
    NEED(maps);
    while (known_count < COUNT(known) && fgets(line, sizeof(line), maps))
        if (sscanf(line, "%lx-%lx %4s", &known[known_count][0], &known[known_count][1], access) ==
                3 &&
            (strchr(line, '/') || strstr(line, "[vdso]") ||
             known[known_count][0] == (unsigned long)area) &&
            access[2] == 'x')
            known_count++;
    fclose(maps);
    handle(SIGALRM, on_alarm, SA_RESTART);
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    unsigned long wrong = 0;
    while (met < 500)
        wrong += run_all(area);
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    say("found", "wrong %lu, strange %lu", wrong, strange);
}

int main(int argc, char **argv)
{
    static const struct trial trials[] = {
        {"RCX", trial_rcx, false},
        {"refused", trial_refused, false},
        {"unreadable", trial_unreadable, false},
        {"left", trial_left, false},
        {"sealed", trial_sealed, false},
        {"half", trial_half, false},
        {"again", trial_again, false},
        {"toggled", trial_toggled, false},
        {"abandoned", trial_abandoned, false},
        {"patched", trial_patched, false},
        {"implied", trial_implied, false},
        {"prefixes", trial_prefixes, false},
        {"flags", trial_flags, false},
        {"stackless", trial_stackless, false},
        {"views", trial_views, true},
        {"found", trial_found, false},
    };
    return run_trials(trials, COUNT(trials), argc, argv);
}
