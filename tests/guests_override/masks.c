// Proves that what is blocked is blocked, and nothing is lost or late, where masks are changed and
// nothing else is asked of Linux: default actions, handlers, what threads and children inherit,
// and signals for a process whose threads begin and end all the time. With an argument: only
// threads, as many.
#include "masks.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

enum { ROUNDS = 20, SENT = 3000, NESTED = 3 };

static atomic_int hits, *shared;

static void count(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    hits++;
}

// The first process sends when the other has blocked all, which goes on before it opens its mask.
static void default_actions(void)
{
    bool right = true;
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(shared, 0);
        pid_t child = fork();
        if (child == 0) {
            uint64_t before = mask_now();
            set_mask(~0UL);
            atomic_store(shared, 1);
            while (atomic_load(shared) != 2)
                continue;
            pass_here();
            atomic_store(shared, 3);
            set_mask(before);
            pass_here();
            _exit(1);
        }
        while (atomic_load(shared) != 1)
            sched_yield();
        NEED(kill(child, SIGTERM) == 0);
        atomic_store(shared, 2);
        int status;
        NEED(waitpid(child, &status, 0) == child);
        right = right && *shared == 3 && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    }
    say("ended by SIGTERM, but not before", "%s", yes(right));
}

static pthread_t first;
static atomic_int asked, done;

static void *send(void *arg)
{
    set_mask(~0UL);
    for (int i = 1; i <= ROUNDS; i++) {
        while (asked != i)
            sched_yield();
        NEED((arg ? pthread_kill(first, SIGUSR1) : kill(getpid(), SIGUSR1)) == 0);
        done = i;
    }
    return NULL;
}

static void handlers(bool to_thread)
{
    pthread_t thread;
    bool held = true, handled = true;
    asked = done = 0;
    first = pthread_self();
    NEED(pthread_create(&thread, NULL, send, to_thread ? &hits : NULL) == 0);
    for (int i = 1; i <= ROUNDS; i++) {
        uint64_t before = mask_now();
        hits = 0;
        set_mask(~0UL);
        asked = i;
        while (done != i)
            continue;
        pass_here();
        if (i % 2) {
            sigset_t pending;
            NEED(sigpending(&pending) == 0);
            held = held && sigismember(&pending, SIGUSR1);
        }
        held = held && hits == 0;
        set_mask(before);
        handled = handled && hits == 1;
    }
    NEED(pthread_join(thread, NULL) == 0);
    say(to_thread ? "for a thread" : "for the process", "held %s, handled %s", yes(held),
        yes(handled));
}

static void *mask_of_self(void *arg)
{
    uint64_t *mask = arg;
    *mask = mask_now();
    return NULL;
}

static void *nest(void *arg)
{
    uintptr_t depth = (uintptr_t)arg;
    pthread_t thread;
    void *deeper = NULL;
    if (depth < NESTED) {
        NEED(pthread_create(&thread, NULL, nest, (void *)(depth + 1)) == 0);
        NEED(pthread_join(thread, &deeper) == 0);
    }
    return (void *)((uintptr_t)deeper + (mask_now() == 1UL << (SIGUSR2 - 1)));
}

static void inherited(void)
{
    const uint64_t usr2 = 1UL << (SIGUSR2 - 1), hup = 1UL << (SIGHUP - 1);
    uint64_t before = mask_now(), mask, child_mask;
    pthread_t thread;
    bool right = true;
    for (int i = 0; i < ROUNDS; i++) {
        set_mask(i % 2 ? usr2 : hup);
        NEED(pthread_create(&thread, NULL, mask_of_self, &mask) == 0);
        set_mask(before);
        NEED(pthread_join(thread, NULL) == 0);
        right = right && mask == (i % 2 ? usr2 : hup);
    }
    say("a thread's", "%s", yes(right));

    pthread_attr_t attr;
    sigset_t other;
    sigemptyset(&other);
    sigaddset(&other, SIGUSR2);
    pthread_attr_init(&attr);
    NEED(pthread_attr_setsigmask_np(&attr, &other) == 0);
    NEED(pthread_create(&thread, &attr, mask_of_self, &mask) == 0);
    NEED(pthread_join(thread, NULL) == 0);
    say("one of its own", "%s", yes(mask == usr2));

    void *levels;
    set_mask(usr2);
    NEED(pthread_create(&thread, NULL, nest, NULL) == 0);
    NEED(pthread_join(thread, &levels) == 0);
    say("threads of threads", "%d", (int)(uintptr_t)levels);

    set_mask(hup | usr2);
    pid_t child = fork();
    if (child == 0)
        _exit(mask_now() == (hup | usr2));
    wait_and_say("a child's", child);
    child = fork();
    if (child == 0) {
        set_mask(before);
        set_mask(hup);
        execl("/bin/grep", "grep", "SigBlk", "/proc/self/status", NULL);
        _exit(1);
    }
    wait_and_say("a program's", child);
    set_mask(before);
    child_mask = mask_now();
    say("as before", "%s", yes(child_mask == before));
}

static uint64_t in_handler, interrupted;
static char *closed;

static void open_page(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    memcpy(&interrupted, &((ucontext_t *)context)->uc_sigmask, sizeof(interrupted));
    in_handler = mask_now();
    NEED(mprotect(closed, PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void faults(void)
{
    const uint64_t segv = 1UL << (SIGSEGV - 1), usr1 = 1UL << (SIGUSR1 - 1);
    uint64_t before = mask_now();
    bool right = true;
    closed = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(closed != MAP_FAILED);
    handle(SIGSEGV, open_page, 0);
    for (int i = 0; i < ROUNDS; i++) {
        NEED(mprotect(closed, PAGE, PROT_READ) == 0);
        set_mask(usr1);
        *(volatile char *)closed = 1;
        right = right && interrupted == usr1 && in_handler == (usr1 | segv) && mask_now() == usr1;
        set_mask(before);
    }
    say("in a handler, and after it", "%s", yes(right));
}

static void *nothing(void *arg)
{
    return arg;
}

static void make_threads(int threads)
{
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, nothing, NULL) == 0);
        NEED(pthread_join(thread, NULL) == 0);
    }
}

// Each is handled once, though Linux may choose a thread that is about to end.
static void none_lost(void)
{
    pid_t parent = getpid();
    hits = 0;
    handle(SIGRTMIN, count, SA_RESTART);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < SENT; i++)
            while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = i}))
                sched_yield();
        _exit(0);
    }
    while (waitpid(child, NULL, WNOHANG) == 0)
        make_threads(4);
    for (int i = 0; i < 1000 && hits < SENT; i++)
        pass_ms(5);
    say("handled", "%d of %d", hits, SENT);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        make_threads(atoi(argv[1]));
        return 0;
    }
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(shared != MAP_FAILED);
    handle(SIGUSR1, count, 0);
    default_actions();
    handlers(true);
    handlers(false);
    inherited();
    faults();
    none_lost();
    return 0;
}
