// Threads of the HRT: what is executed there, and how a caller waits for it. Nothing here may use
// thread-local storage between switching to the caller's and back.

#include <errno.h>
#include <execinfo.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#include "abi/frame.h"
#include "hrt.h"

// How long one looks before one sleeps, TSC cycles: some 60 µs, about what sleeping and waking
// cost.
static const uint64_t LOOK = 150000;
// How often one looks at first without a pause: some 300 ns. A pause, and reading the time, make an
// answer later by as much as they take.
enum { EAGER = 256 };

// Not through the C library: a caller's errno may be the function's already.
static void futex(uint32_t *word, long operation, uint32_t value)
{
    long result;
    register void *timeout __asm__("r10") = NULL;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_futex), "D"(word), "S"(operation), "d"(value), "r"(timeout)
                     : "rcx", "r11", "memory");
}

static void futex_wait(uint32_t *word, uint32_t value)
{
    futex(word, FUTEX_WAIT_PRIVATE, value);
}

static void futex_wake(uint32_t *word)
{
    futex(word, FUTEX_WAKE_PRIVATE, 1);
}

// ---- Requests ---------------------------------------------------------------------------------

// True if there is none, or none any more.
static bool is_idle(uint32_t state)
{
    return state == IDLE || state == ASLEEP;
}

// Look for a while until the thread is idle, or is not. Returns the state seen last.
static uint32_t look_until(const struct worker *worker, bool idle)
{
    uint32_t state = IDLE;
    for (unsigned i = 0; i < EAGER; i++) {
        state = __atomic_load_n(&worker->request.state, __ATOMIC_ACQUIRE);
        if (is_idle(state) == idle)
            return state;
    }
    for (uint64_t begin = __rdtsc(); __rdtsc() - begin < LOOK;) {
        __builtin_ia32_pause();
        state = __atomic_load_n(&worker->request.state, __ATOMIC_ACQUIRE);
        if (is_idle(state) == idle)
            return state;
    }
    return state;
}

// Put `next` in the place of *seen. If something else is there, *seen becomes that, and the result
// is false.
static bool exchange(union request *request, union request *seen, union request next)
{
    uint64_t low = (uint64_t)seen->all, high = seen->what;
    bool done;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(request->all), "+a"(low), "+d"(high)
                     : "b"((uint64_t)next.all), "c"(next.what)
                     : "memory");
    seen->all = (unsigned __int128)high << 64 | low;
    return done;
}

static union request load(const union request *request)
{
    union request seen = {{.state = __atomic_load_n(&request->state, __ATOMIC_ACQUIRE)}};
    seen.wide = request->wide;
    seen.what = request->what;
    return seen;
}

// ---- In the HRT -------------------------------------------------------------------------------

// Returns POSTED, maybe with WAITED, or QUIT.
static uint32_t wait_for_request(struct worker *worker)
{
    for (;;) {
        uint32_t idle = IDLE, state = look_until(worker, false);
        if (!is_idle(state))
            return state;
        __atomic_compare_exchange_n(&worker->request.state, &idle, ASLEEP, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
        futex_wait(&worker->request.state, ASLEEP);
    }
}

// `seen` has been executed.
static void answer(struct worker *worker, union request seen, int status, uint64_t result)
{
    union request next = {{.state = IDLE, .status = (uint32_t)status, .what = result}};
    while (!exchange(&worker->request, &seen, next))
        ;
    if (seen.state & WAITED)
        futex_wake(&worker->request.state);
}

static uint64_t run(const uint64_t *a, bool wide, uint64_t what)
{
    typedef uint64_t function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
    if (!wide)
        return ((function *)what)(a[0], a[1], a[2], a[3], a[4], a[5]);
    invoke((struct mv_call *)what);
    return 0;
}

// Returns 0 or -EFAULT.
static int run_guarded(struct worker *worker, bool wide, uint64_t what, uint64_t *result)
{
    uint64_t own;
    int err = -EFAULT;
    __asm__ volatile("rdfsbase %0" : "=r"(own));
    // A thread's TLS is what FS says, for the compiler, too: it must not be used until FS is back.
    uint64_t fs = worker->fs_base ? worker->fs_base : own;
    if (!mv_context_save(&worker->saved)) {
        __asm__ volatile("wrfsbase %0" : : "r"(fs) : "memory");
        *result = run(worker->args, wide, what);
        err = 0;
    }
    __asm__ volatile("wrfsbase %0" : : "r"(own) : "memory");
    return err;
}

void worker_fault(int sig, void *info, void *context)
{
    const siginfo_t *i = info;
    const ucontext_t *uc = context;
    struct worker *worker = NULL;
    struct mv_hrt *hrt = the_hrt();
    for (unsigned n = 0; n < hrt->threads && !worker; n++) {
        struct worker *w = &hrt->workers[n];
        if ((char *)&worker >= w->altstack && (char *)&worker < w->altstack + ALTSTACK_SIZE)
            worker = w;
    }
    if (!worker) { // a thread that a function has made
        signal(sig, SIG_DFL);
        raise(sig);
        _exit(128 + sig);
    }
    if (worker->unwinding) // it has read what is not there
        mv_context_restore(&worker->unwound, 1);
    struct mv_fault *fault = &worker->fault;
    *fault = (struct mv_fault){.signal = sig, .code = i->si_code, .address = (uint64_t)i->si_addr};
    for (unsigned n = 0; n < 18; n++)
        fault->registers[n] = (uint64_t)uc->uc_mcontext.gregs[n];
    void *frames[34];
    worker->unwinding = true;
    int count = mv_context_save(&worker->unwound) ? 0 : backtrace(frames, 34);
    worker->unwinding = false;
    int first = 0; // the first ones are the handler's own
    while (first < count && frames[first] != (void *)fault->registers[16])
        first++;
    if (first == count) { // it could not be unwound: at least where it was
        frames[0] = (void *)fault->registers[16];
        first = 0, count = 1;
    }
    for (int n = first; n < count && fault->frames < 32; n++)
        fault->backtrace[fault->frames++] = (uint64_t)frames[n];
    mv_context_restore(&worker->saved, 1);
}

// Take the next task, or give the thread back. Returns false then.
static bool next_task(struct worker *worker)
{
    struct mv_hrt *hrt = worker->hrt;
    pthread_mutex_lock(&hrt->lock);
    struct mv_task *task = hrt->first;
    if (task)
        hrt->first = task->next;
    worker->task = task;
    if (!task) {
        answer(worker, load(&worker->request), 0, 0);
        __atomic_store_n(&worker->owned, 0, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&hrt->freed);
    }
    pthread_mutex_unlock(&hrt->lock);
    return task != NULL;
}

static void run_tasks(struct worker *worker)
{
    do {
        struct mv_task *task = worker->task;
        uint64_t result;
        task->status = run_guarded(worker, true, (uint64_t)task->call, &result);
        if (task->status)
            task->call->fault = worker->fault;
        __atomic_store_n(&task->done, 1, __ATOMIC_RELEASE);
        futex_wake(&task->done);
    } while (next_task(worker));
}

void worker_loop(struct worker *worker)
{
    stack_t stack = {.ss_sp = worker->altstack, .ss_size = ALTSTACK_SIZE};
    sigaltstack(&stack, NULL);
    worker_begun(worker, 0);
    while (wait_for_request(worker) != QUIT) {
        if (worker->task) {
            run_tasks(worker);
            continue;
        }
        union request request = load(&worker->request);
        uint64_t result = 0;
        int err = run_guarded(worker, request.wide, request.what, &result);
        answer(worker, request, err, result);
    }
    if (!worker->hrt->within)
        core_request(MV_AEROKERNEL_LEAVE, 0, 0);
}

// ---- On callers' threads ----------------------------------------------------------------------

void worker_post(struct worker *worker, uint32_t state)
{
    if (__atomic_exchange_n(&worker->request.state, state, __ATOMIC_ACQ_REL) == ASLEEP)
        futex_wake(&worker->request.state);
}

int worker_execute(struct worker *worker, bool wide, uint64_t what, uint64_t *result)
{
    union request seen = load(&worker->request);
    union request next = {{.state = POSTED, .wide = wide, .what = what}};
    while (!exchange(&worker->request, &seen, next))
        ;
    if (seen.state == ASLEEP)
        futex_wake(&worker->request.state);
    for (;;) {
        uint32_t state = look_until(worker, true);
        if (is_idle(state))
            break;
        if ((state & WAITED) ||
            __atomic_compare_exchange_n(&worker->request.state, &state, POSTED | WAITED, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            futex_wait(&worker->request.state, POSTED | WAITED);
    }
    *result = worker->request.what;
    return (int)worker->request.status;
}

int mv_task_join(struct mv_task *task)
{
    for (uint64_t begin = __rdtsc(); !__atomic_load_n(&task->done, __ATOMIC_ACQUIRE);) {
        if (__rdtsc() - begin < LOOK)
            __builtin_ia32_pause();
        else
            futex_wait(&task->done, 0);
    }
    int status = task->status;
    if (status)
        report_fault(&task->call->fault);
    free(task);
    return status;
}

bool mv_task_done(const struct mv_task *task)
{
    return __atomic_load_n(&task->done, __ATOMIC_ACQUIRE);
}
