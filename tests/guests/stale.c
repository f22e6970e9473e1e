// Proves that no access succeeds, or arrives, by a translation that a call has already taken away:
// two threads unmap, protect, move, replace and fork the pages of an area while others read, write
// and execute them. stale [SEED [ROUNDS]]; what goes wrong is printed with the seed.
//
// Each page has a state, which the thread that changes it publishes when its call has returned. A
// user looks at the state, makes its access, and looks again: if nothing has been published in
// between, the access must have had the result that the state promises. What users write must not
// reach a page once it may only be read, has been moved, or belongs to a forked child, and must not
// be lost when it is copied.
#include "guest.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>

enum { CHANGERS = 2, USERS = 3, PAGES_EACH = 4, PAGES = CHANGERS * PAGES_EACH };
enum { ROUNDS = 400, FORK_EVERY = 50, CODE = 2048 };
// Far from where Linux, or anybody else, puts mappings without being asked: holes stay holes.
#define AREA 0x200000000000

// What a page's state promises.
enum { READ = 1, WRITE = 2, EXECUTE = 4, ZERO = 8, CHANGING = 16 };
#define LIFE(state) ((state) >> 8 & 0xffffff) // changes when the content does
#define SERIAL 0x100000000ULL                 // a state never comes back

struct page {
    uint64_t life; // what LIFE() says, or 0 if ZERO
    uint64_t count[USERS];
};

static uint64_t states[PAGES];
static char *area, *elsewhere; // two pages of `elsewhere` for each of `area`
static int file;
static uint64_t seed = 1;
static int rounds = ROUNDS, stop, wrong;
static pthread_barrier_t start;
static __thread sigjmp_buf env;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return *state >> 33;
}

static void report(const char *what, int page, uint64_t state)
{
    if (__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED) < 5)
        say("WRONG", "%s: page %d state %llx seed %llu", what, page, (unsigned long long)state,
            (unsigned long long)seed);
}

static struct page *page_at(int i)
{
    return (struct page *)(area + (size_t)i * PAGE);
}

static uint64_t look(int i)
{
    return __atomic_load_n(&states[i], __ATOMIC_SEQ_CST);
}

static uint64_t publish(int i, uint64_t life, unsigned promises)
{
    uint64_t state = (look(i) & ~(SERIAL - 1)) + SERIAL + ((life & 0xffffff) << 8) + promises;
    __atomic_store_n(&states[i], state, __ATOMIC_SEQ_CST);
    return state;
}

static void let_others(uint64_t *random)
{
    for (uint64_t turns = next_random(random) % 64; turns; turns--)
        __builtin_ia32_pause();
    if (next_random(random) % 4 == 0)
        sched_yield();
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    siglongjmp(env, 1);
}

// ---- users ----

// Returns whether the access has been made; *got is what was read by it.
__attribute__((noinline)) static bool try(struct page *page, unsigned access, uint64_t self,
                                          uint64_t *got)
{
    if (sigsetjmp(env, 0))
        return false;
    if (access == READ) {
        *got = *(volatile uint64_t *)&page->life;
    } else if (access == EXECUTE) {
        *got = ((uint32_t(*)(void))((char *)page + CODE))();
    } else {
        *got = *(volatile uint64_t *)&page->count[self];
        __asm__ volatile("incq %0" : "+m"(page->count[self]) : : "memory");
    }
    return true;
}

static void *use(void *arg)
{
    uint64_t random = seed * 1000 + (uint64_t)arg, self = (uint64_t)arg;
    struct {
        uint64_t life, count;
    } written[PAGES] = {0};
    pthread_barrier_wait(&start);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        int i = (int)(next_random(&random) % PAGES);
        unsigned access = 1U << next_random(&random) % 3;
        uint64_t before = look(i), got = 0;
        bool done = try(page_at(i), access, self, &got);
        // What has been written counts for as long as the content lives, whatever is published.
        bool still = look(i) == before, known = still && !(before & CHANGING);
        uint64_t life = LIFE(before);
        if (known && done != !!(before & access))
            report(done ? "an access that is forbidden" : "an access that is allowed", i, before);
        else if (known && done && access != WRITE && got != (before & ZERO ? 0 : life))
            report("old content", i, before);
        else if (known && done && access == WRITE && written[i].life == life &&
                 written[i].count != got)
            report("lost what was written", i, before);
        if (done && access == WRITE) {
            written[i].life = known ? life : 0;
            written[i].count = got + 1;
        }
        __builtin_ia32_pause();
    }
    return NULL;
}

// ---- changers ----

// What a page holds when its life begins.
static void fill(struct page *page, uint64_t life)
{
    char code[6] = {(char)0xb8, 0, 0, 0, 0, (char)0xc3}; // mov $life, %eax; ret
    memcpy(code + 1, &life, 4);
    *page = (struct page){.life = life};
    memcpy((char *)page + CODE, code, sizeof(code));
}

// Nobody may write here any more. Returns false if somebody has.
static bool rests(const volatile struct page *page, uint64_t life, uint64_t *random)
{
    uint64_t before[USERS];
    bool same = page->life == life;
    for (int u = 0; u < USERS; u++)
        before[u] = page->count[u];
    let_others(random);
    for (int u = 0; u < USERS; u++)
        same = same && page->count[u] == before[u];
    return same;
}

static void renew(int i, uint64_t life)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    NEED(mmap(page_at(i), PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == page_at(i));
    fill(page_at(i), life);
    publish(i, life, READ | WRITE);
}

static void change(int i, uint64_t life, uint64_t *random)
{
    static const int prots[] = {0, PROT_READ, PROT_READ | PROT_EXEC};
    static const unsigned promises[] = {0, READ, READ | EXECUTE};
    struct page *page = page_at(i);
    uint64_t old = look(i), choice = next_random(random) % 6;
    char *other = elsewhere + 2 * (size_t)i * PAGE;
    publish(i, 0, CHANGING);
    switch (choice) {
    case 0:
        NEED(munmap(page, PAGE) == 0);
        publish(i, 0, 0);
        let_others(random);
        publish(i, 0, CHANGING);
        renew(i, life);
        break;
    case 1:
    case 2: {
        uint64_t which = next_random(random) % (old & ZERO ? 2 : COUNT(prots));
        NEED(mprotect(page, PAGE, prots[which]) == 0);
        uint64_t state = publish(i, LIFE(old), promises[which] | (old & ZERO));
        if (prots[which] && !rests(page, old & ZERO ? 0 : LIFE(old), random))
            report("written after mprotect", i, state);
        publish(i, 0, CHANGING);
        NEED(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
        publish(i, LIFE(old), READ | WRITE | (old & ZERO));
        break;
    }
    case 3: {
        int keep = next_random(random) % 2 ? MREMAP_DONTUNMAP : 0;
        char *to = other + (keep ? PAGE : 0);
        NEED(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | keep, to) == to);
        uint64_t state = publish(i, life, keep ? READ | WRITE | ZERO : 0);
        if (!rests((struct page *)to, old & ZERO ? 0 : LIFE(old), random))
            report("written after mremap", i, state);
        publish(i, 0, CHANGING);
        NEED(mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page) == page);
        publish(i, LIFE(old), READ | WRITE | (old & ZERO));
        break;
    }
    case 4: {
        // A file's page with other content, written while it is mapped nowhere.
        char content[PAGE] __attribute__((aligned(8))) = {0};
        off_t offset = (off_t)(i * PAGE);
        bool execute = next_random(random) % 2;
        fill((struct page *)content, life);
        NEED(pwrite(file, content, PAGE, offset) == (ssize_t)PAGE);
        NEED(mmap(page, PAGE, PROT_READ | (execute ? PROT_EXEC : PROT_WRITE),
                  MAP_PRIVATE | MAP_FIXED, file, offset) == page);
        publish(i, life, READ | (execute ? EXECUTE : WRITE));
        let_others(random);
        publish(i, 0, CHANGING);
        renew(i, life + 1);
        break;
    }
    case 5:
        NEED(madvise(page, PAGE, MADV_DONTNEED) == 0);
        publish(i, life, READ | WRITE | ZERO);
        break;
    }
}

// A forked child sees its pages as they were, whatever its parent's threads write meanwhile.
static void fork_and_look(uint64_t *random)
{
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        bool same = true;
        for (int turn = 0; turn < 3; turn++)
            for (int i = 0; i < PAGES_EACH; i++) // those that only this thread changes
                if (LIFE(look(i)))
                    same = same && rests(page_at(i), look(i) & ZERO ? 0 : LIFE(look(i)), random);
        _exit(!same);
    }
    int status;
    NEED(waitpid(child, &status, 0) == child);
    if (status)
        report("written into the child", -1, (uint64_t)status);
}

static void *change_all(void *arg)
{
    uint64_t self = (uint64_t)arg, random = seed * 2000 + self;
    pthread_barrier_wait(&start);
    for (int round = 0; round < rounds; round++) {
        int i = (int)(self * PAGES_EACH + next_random(&random) % PAGES_EACH);
        change(i, (uint64_t)(round + PAGES) * 2 * CHANGERS + 2 * self, &random);
        let_others(&random);
        if (self == 0 && round % FORK_EVERY == 0)
            fork_and_look(&random);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        rounds = atoi(argv[2]);
    handle(SIGSEGV, on_fault, SA_NODEFER);
    file = memfd_create("pages", 0);
    NEED(file >= 0 && ftruncate(file, (off_t)(PAGES * PAGE)) == 0);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    area = mmap((void *)AREA, 3 * PAGES * PAGE, PROT_NONE, flags, -1, 0);
    NEED(area == (char *)AREA);
    elsewhere = area + PAGES * PAGE;
    for (int i = 0; i < PAGES; i++)
        renew(i, (uint64_t)i + 1);
    pthread_t threads[CHANGERS + USERS];
    NEED(pthread_barrier_init(&start, NULL, CHANGERS + USERS) == 0);
    for (uint64_t t = 0; t < CHANGERS + USERS; t++)
        NEED(pthread_create(&threads[t], NULL, t < CHANGERS ? change_all : use,
                            (void *)(t < CHANGERS ? t : t - CHANGERS)) == 0);
    for (int t = 0; t < CHANGERS; t++)
        pthread_join(threads[t], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int t = CHANGERS; t < CHANGERS + USERS; t++)
        pthread_join(threads[t], NULL);
    say("rounds of each changer", "%d", rounds);
    say("stale", "%d", wrong);
    return wrong != 0;
}
