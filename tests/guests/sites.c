// Proves that system calls made many times from the same place go on behaving like the instruction:
// whatever follows it, wherever it lies, whoever jumps behind it, when its code is copied, moved,
// mapped anew or changed, single-stepped, or run by several threads and hit by signals.
// Argument: the name of one trial; "copied" and "bytes" run only when asked for.
#include "sites.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/time.h>

#ifndef PR_SET_MDWE // Linux 6.3
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

static void emit_all(char *at)
{
    for (unsigned i = 0; i < COUNT(shapes); i++)
        emit(at + 64 * i, &shapes[i], NULL);
}

static void trial_shapes(void)
{
    // At the beginning of a line of the cache, across two, across two pages.
    static const long places[] = {0, 55, 56, 57, 4085, 4086, 4087, 4088, 4089, 4090};
    for (unsigned i = 0; i < COUNT(shapes); i++) {
        unsigned long wrong = 0;
        long flags = 0;
        area = new_area();
        for (unsigned j = 0; j < COUNT(places); j++)
            emit(area + 2 * PAGE * j + places[j], &shapes[i], NULL);
        seal(area);
        for (unsigned j = 0; j < COUNT(places); j++) {
            char *at = area + 2 * PAGE * j + places[j];
            wrong += run(at, HOT);
            flags |= ((code *)at)(0).flags & ARITHMETIC & ~0x4; // parity is the process's number's
        }
        bool depends = i == 3 || i == 11; // on the low bits of the process's number
        say(shapes[i].name, "wrong %lu, flags %lx", wrong, depends ? 0 : flags & ~0x10);
    }
}

// Others come to the address behind the instruction without having made the call.
static void trial_behind(void)
{
    for (unsigned i = 0; i < COUNT(shapes); i++) {
        char *behind;
        unsigned long wrong = 0;
        area = new_area();
        char *end = emit(area, &shapes[i], &behind);
        // mov %rdi, %rax; jmp behind
        char *entry = end + 7;
        memcpy(entry, "\x48\x89\xf8\xe9", 4);
        int distance = (int)(behind - (entry + 8));
        memcpy(entry + 4, &distance, 4);
        seal(area);
        wrong += run(area, HOT);
        for (int j = 0; j < 2 * HOT; j++) {
            wrong += ((code *)entry)(1234 + j).result != 1234 + j;
            if (j % 3 == 0)
                wrong += run(area, 1);
        }
        wrong += run(area, HOT);
        say("behind", "%s: wrong %lu", shapes[i].name, wrong);
    }
}

// A function that begins right behind another's end, without alignment.
static void trial_neighbours(void)
{
    static const struct {
        const char *name, *between;
        int length;
    } gaps[] = {{"none", "", 0},
                {"nop", "\x90", 1},
                {"two nops", "\x90\x90", 2},
                {"two-byte nop", "\x66\x90", 2},
                {"three-byte nop", "\x0f\x1f\x00", 3},
                {"int3", "\xcc", 1},
                {"two int3", "\xcc\xcc", 2}};
    for (unsigned i = 0; i < COUNT(gaps); i++) {
        unsigned long wrong = 0;
        area = new_area();
        for (int j = 0; j < 16; j++) {
            char *at = area + 64 * j + j;
            memcpy(at, "\xb8\x6e\x00\x00\x00\x0f\x05\xc3", 8);
            memcpy(at + 8, gaps[i].between, (size_t)gaps[i].length);
            memcpy(at + 8 + gaps[i].length, "\xb8\x07\x00\x00\x00\xc3", 6); // mov $7, %eax; ret
        }
        seal(area);
        for (int j = 0; j < 16; j++) {
            char *at = area + 64 * j + j;
            for (int k = 0; k < HOT; k++)
                wrong += ((code *)at)(0).result != parent;
            for (int k = 0; k < 3; k++)
                wrong += ((code *)(at + 8 + gaps[i].length))(0).result != 7;
        }
        say("neighbour behind", "%s: wrong %lu", gaps[i].name, wrong);
    }
}

// Code that does not depend on its address may be copied or moved.
static void trial_copied(void)
{
    char *copy = new_area();
    unsigned long wrong = 0;
    area = new_area();
    emit_all(area);
    seal(area);
    wrong += run_all(area);
    say("to be copied", "wrong %lu", wrong);
    memcpy(copy, area, PAGE);
    seal(copy);
    wrong += run_all(copy);
    say("copied", "wrong %lu", wrong);
}

static void trial_moved(void)
{
    unsigned long wrong = 0;
    char *room = mmap(NULL, 4 * AREA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    area = new_area();
    emit_all(area);
    seal(area);
    wrong += run_all(area);
    say("to be moved", "wrong %lu", wrong);
    char *moved = mremap(area, AREA, AREA, MREMAP_MAYMOVE | MREMAP_FIXED, room + AREA);
    NEED(moved == room + AREA);
    wrong += run_all(moved);
    say("moved", "wrong %lu", wrong);
}

// Other code at the same address, by unmapping, by mapping over it, and by writing.
static void trial_replaced(void)
{
    unsigned long wrong = 0;
    area = new_area();
    for (unsigned round = 0; round < 24; round++) {
        const struct shape *shape = &shapes[round % COUNT(shapes)];
        if (round % 3 == 0) {
            NEED(munmap(area, AREA) == 0);
            NEED(mmap(area, AREA, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == area);
        } else if (round % 3 == 1) {
            NEED(mmap(area, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                      -1, 0) == area);
        } else {
            NEED(mprotect(area, AREA, PROT_READ | PROT_WRITE) == 0);
        }
        emit(area + 32, shape, NULL);
        emit(area + PAGE - 9, shape, NULL);
        seal(area);
        wrong += run(area + 32, HOT);
        wrong += run(area + PAGE - 9, HOT);
        NEED(mprotect(area, AREA, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
        memcpy(area + 32 + 1, "\x27", 1); // now getpid
        wrong += ((code *)(area + 32))(0).result != getpid();
        seal(area);
        for (int i = 0; i < HOT; i++)
            wrong += ((code *)(area + 32))(0).result != getpid();
    }
    say("replaced", "wrong %lu", wrong);
}

// Several threads run code that nobody has run before, while signals hit them.
enum { THREADS = 4, FRESH = 60 };
static pthread_barrier_t barrier;
static volatile unsigned long hits, wrong_there;
static char *volatile low, *volatile high;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    hits++;
    for (int i = 0; i < 3; i++)
        if (((code *)area)(0).result != parent)
            __atomic_add_fetch(&wrong_there, 1, __ATOMIC_SEQ_CST);
}

static void *run_fresh(void *arg)
{
    unsigned long wrong = 0;
    for (int i = 0; i < FRESH; i++) {
        pthread_barrier_wait(&barrier);
        wrong += run(area + 96 * i, HOT);
    }
    __atomic_add_fetch(&wrong_there, wrong, __ATOMIC_SEQ_CST);
    return arg;
}

static void trial_threads(void)
{
    pthread_t threads[THREADS];
    struct itimerval timer = {{0, 1000}, {0, 1000}}, none = {0};
    handle(SIGALRM, on_alarm, SA_RESTART | SA_NODEFER);
    for (int round = 0; round < 3; round++) {
        area = new_area();
        for (int i = 0; i < FRESH; i++)
            emit(area + 96 * i, &shapes[i % COUNT(shapes)], NULL);
        seal(area);
        pthread_barrier_init(&barrier, NULL, THREADS);
        NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            NEED(pthread_create(&threads[i], NULL, run_fresh, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            NEED(pthread_join(threads[i], NULL) == 0);
        while (!hits)
            continue;
        NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    }
    say("threads", "wrong %lu", wrong_there);
}

// More places than any table may hold.
static void trial_many(void)
{
    enum { MANY = 1500 };
    unsigned long wrong = 0;
    area = new_area();
    for (int i = 0; i < MANY; i++)
        emit(area + 48 * i, &shapes[i % COUNT(shapes)], NULL);
    seal(area);
    for (int i = 0; i < MANY; i++)
        wrong += run(area + 48 * i, 20);
    for (int i = 0; i < MANY; i++)
        wrong += run(area + 48 * i, 2);
    pid_t child = fork();
    if (child == 0) {
        parent = getppid();
        for (int i = 0; i < MANY; i++)
            wrong += run(area + 48 * i, 2);
        _exit(wrong ? 1 : 0);
    }
    wait_and_say("many, child", child);
    say("many", "wrong %lu", wrong);
}

// Each step of a traced call is at an instruction of the program's.
static volatile unsigned steps, strange;
static volatile char *from, *to;

static void on_step(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    char *rip = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if (rip >= from && rip < to)
        steps++;
    else if (rip >= low && rip < high)
        strange++;
}

static void trial_steps(void)
{
    handle(SIGTRAP, on_step, 0);
    for (unsigned i = 0; i < COUNT(shapes); i++) {
        area = new_area();
        from = area;
        to = emit(area, &shapes[i], NULL);
        low = area;
        high = area + AREA;
        seal(area);
        unsigned long wrong = run(area, HOT);
        steps = strange = 0;
        for (int j = 0; j < 3; j++) {
            __asm__ volatile("pushfq; orq $0x100, (%rsp); popfq");
            wrong += ((code *)area)(0).result != parent;
            __asm__ volatile("pushfq; andq $~0x100, (%rsp); popfq");
        }
        say("steps", "%s: wrong %lu, steps %u, elsewhere %u", shapes[i].name, wrong, steps,
            strange);
    }
}

// The program's own GS base.
static void trial_gs(void)
{
    static uint64_t own[2] = {0x1234567890, 77};
    unsigned long wrong = 0;
    uint64_t seen;
    area = new_area();
    emit_all(area);
    seal(area);
    for (unsigned i = 0; i < COUNT(shapes); i += 2)
        wrong += run(area + 64 * i, HOT);
    NEED(syscall(SYS_arch_prctl, ARCH_SET_GS, own) == 0);
    for (unsigned i = 0; i < COUNT(shapes); i++) {
        wrong += run(area + 64 * i, HOT);
        __asm__ volatile("mov %%gs:0, %0" : "=r"(seen));
        wrong += seen != own[0];
    }
    NEED(syscall(SYS_arch_prctl, ARCH_SET_GS, 0) == 0);
    wrong += run_all(area);
    say("GS base", "wrong %lu", wrong);
}

// A program that may not make writable memory executable any more.
static void trial_mdwe(void)
{
    unsigned long wrong = 0;
    area = new_area();
    for (unsigned i = 0; i < 2 * COUNT(shapes); i++)
        emit(area + 64 * i, &shapes[i % COUNT(shapes)], NULL);
    seal(area);
    wrong += run_all(area);
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)) {
        say("missing", "PR_SET_MDWE");
        return;
    }
    for (unsigned i = 0; i < 2 * COUNT(shapes); i++)
        wrong += run(area + 64 * i, HOT);
    for (unsigned i = 0; i < 2 * COUNT(shapes); i++)
        wrong += run(area + 64 * i, HOT);
    char *data = new_area();
    say("PR_SET_MDWE", "wrong %lu, mprotect %s", wrong,
        outcome(mprotect(data, PAGE, PROT_READ | PROT_EXEC)));
}

// The program's own code as data.
static void trial_bytes(void)
{
    unsigned long wrong = 0, different = 0;
    static char before[PAGE];
    area = new_area();
    emit_all(area);
    seal(area);
    memcpy(before, area, PAGE);
    wrong += run_all(area);
    for (unsigned i = 0; i < PAGE; i++)
        different += before[i] != area[i];
    say("bytes", "wrong %lu, different %lu", wrong, different);
}

// A constant in the instruction behind the call, changed in place.
static void trial_constant(void)
{
    unsigned long wrong = 0;
    char *behind;
    area = new_area();
    emit(area, &shapes[0], &behind);
    seal(area);
    wrong += run(area, HOT);
    NEED(mprotect(area, AREA, PROT_READ | PROT_WRITE) == 0);
    memcpy(behind + 3, "\x00\x00\x00", 3); // cmp $1, %rax
    seal(area);
    wrong += run(area, 1);
    long flags = ((code *)area)(0).flags;
    say("constant", "wrong %lu, below %s", wrong, yes(flags & 1));
}

int main(int argc, char **argv)
{
    static const struct trial trials[] = {
        {"shapes", trial_shapes, false},
        {"behind", trial_behind, false},
        {"neighbours", trial_neighbours, false},
        {"copied", trial_copied, true},
        {"moved", trial_moved, false},
        {"replaced", trial_replaced, false},
        {"threads", trial_threads, false},
        {"many", trial_many, false},
        {"steps", trial_steps, false},
        {"GS", trial_gs, false},
        {"MDWE", trial_mdwe, false},
        {"bytes", trial_bytes, true},
        {"constant", trial_constant, false},
    };
    return run_trials(trials, COUNT(trials), argc, argv);
}
