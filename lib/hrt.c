// The HRT of a process: its life, its threads, and who may use them.

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "abi/frame.h"
#include "hrt.h"

#define HWCAP2_FSGSBASE 2UL // of AT_HWCAP2: programs may use RDFSBASE and its kin

static const size_t STACK_DEFAULT = 8UL << 20, GUARD = 4096;

static struct mv_hrt hrt = {.lock = PTHREAD_MUTEX_INITIALIZER, .freed = PTHREAD_COND_INITIALIZER};
// Of creating, rebooting and destroying.
static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;

static __thread struct mv_fault last_fault;

struct mv_hrt *the_hrt(void)
{
    return &hrt;
}

const struct mv_fault *mv_fault_last(void)
{
    return &last_fault;
}

int report_fault(const struct mv_fault *fault)
{
    last_fault = *fault;
    return fail(-EFAULT,
                "HRT call: signal %d (%s) at instruction 0x%llx, address 0x%llx; see the "
                "function",
                fault->signal, strsignal(fault->signal), (unsigned long long)fault->registers[16],
                (unsigned long long)fault->address);
}

// The thread of the HRT that executes the caller, or NULL.
static struct worker *current_worker(void)
{
    const char *here = __builtin_frame_address(0);
    for (unsigned i = 0; i < hrt.threads; i++)
        if (here >= hrt.workers[i].stack && here < hrt.workers[i].stack_end)
            return &hrt.workers[i];
    return NULL;
}

bool mv_in_hrt(void)
{
    return current_worker() != NULL;
}

int mv_hrt_ring(const struct mv_hrt *which)
{
    return which->ring;
}

// ---- Threads ------------------------------------------------------------------------------------

static void *thread_main(void *arg)
{
    struct worker *worker = arg;
    if (hrt.within) {
        worker_loop(worker);
        return NULL;
    }
    int err = hrt.core.enter((uint64_t)worker_loop, (uint64_t)worker);
    if (err)
        worker_begun(worker, err);
    return NULL;
}

void worker_begun(struct worker *worker, int err)
{
    pthread_mutex_lock(&hrt.lock);
    worker->begun = err ? err : 1;
    pthread_cond_broadcast(&hrt.freed);
    pthread_mutex_unlock(&hrt.lock);
}

static int start_thread(struct worker *worker)
{
    pthread_attr_t attr;
    sigset_t all, before;
    size_t size = hrt.stack_size + GUARD;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    char *altstack = malloc(ALTSTACK_SIZE);
    *worker = (struct worker){.hrt = &hrt, .altstack = altstack};
    if (stack == MAP_FAILED || !altstack || mprotect(stack, GUARD, PROT_NONE)) {
        if (stack != MAP_FAILED)
            munmap(stack, size);
        free(altstack);
        return -ENOMEM;
    }
    worker->stack = stack + GUARD;
    worker->stack_end = stack + size;
    pthread_attr_init(&attr);
    pthread_attr_setstack(&attr, worker->stack, hrt.stack_size);
    // Signals are for native threads.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&worker->thread, &attr, thread_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (err) {
        munmap(stack, size);
        free(altstack);
        return -err;
    }
    worker->started = true;
    pthread_mutex_lock(&hrt.lock);
    while (!worker->begun)
        pthread_cond_wait(&hrt.freed, &hrt.lock);
    pthread_mutex_unlock(&hrt.lock);
    return worker->begun < 0 ? worker->begun : 0;
}

static void end_thread(struct worker *worker)
{
    if (!worker->started)
        return;
    worker_post(worker, QUIT);
    pthread_join(worker->thread, NULL);
    munmap(worker->stack - GUARD, hrt.stack_size + GUARD);
    free(worker->altstack);
    *worker = (struct worker){0};
}

static void end_threads(void)
{
    for (unsigned i = 0; i < THREADS_MAX; i++)
        end_thread(&hrt.workers[i]);
    hrt.threads = 0;
}

// Errors: as mv_hrt_create(); all threads are gone then.
static int start_threads(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        hrt.threads = i + 1;
        int err = start_thread(&hrt.workers[i]);
        if (err) {
            end_threads();
            return fail(err, "HRT: thread %u of %u: %s; use fewer or raise the limits (ulimit -a)",
                        i + 1, count, strerror(-err));
        }
    }
    return 0;
}

// ---- Who has a thread -----------------------------------------------------------------------

static struct worker *take_free(void)
{
    for (unsigned i = 0; i < hrt.threads; i++) {
        struct worker *worker = &hrt.workers[i];
        if (!__atomic_load_n(&worker->owned, __ATOMIC_RELAXED) &&
            !__atomic_exchange_n(&worker->owned, 1, __ATOMIC_SEQ_CST))
            return worker;
    }
    return NULL;
}

static struct worker *take(void)
{
    struct worker *worker = take_free();
    if (worker)
        return worker;
    pthread_mutex_lock(&hrt.lock);
    __atomic_add_fetch(&hrt.waiting, 1, __ATOMIC_SEQ_CST);
    while (!(worker = take_free()))
        pthread_cond_wait(&hrt.freed, &hrt.lock);
    __atomic_sub_fetch(&hrt.waiting, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&hrt.lock);
    return worker;
}

// With the lock held: let the worker, which is owned, execute the first task.
static void begin_task(struct worker *worker)
{
    worker->task = hrt.first;
    hrt.first = worker->task->next;
    worker->fs_base = 0;
    worker_post(worker, POSTED);
}

static void release(struct worker *worker)
{
    if (worker->task) // else its line stays as it is
        worker->task = NULL;
    __atomic_exchange_n(&worker->owned, 0, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&hrt.waiting, __ATOMIC_SEQ_CST) &&
        !__atomic_load_n(&hrt.first, __ATOMIC_SEQ_CST))
        return;
    pthread_mutex_lock(&hrt.lock);
    if (hrt.first && (worker = take_free()))
        begin_task(worker);
    else
        pthread_cond_broadcast(&hrt.freed);
    pthread_mutex_unlock(&hrt.lock);
}

// ---- Calls --------------------------------------------------------------------------------------

static int refuse(void)
{
    if (hrt.phase == PHASE_FORKED)
        return fail(-ECHILD, "HRT call: the HRT belongs to the parent of this process; create one");
    return fail(-ESHUTDOWN, "HRT call: the HRT has been destroyed; create one");
}

// The calling thread's TLS is the function's.
static uint64_t fs_base(void)
{
    uint64_t fs;
    __asm__ volatile("rdfsbase %0" : "=r"(fs));
    return fs;
}

static int execute(struct worker *worker, bool wide, uint64_t what, uint64_t *result)
{
    uint64_t fs = fs_base();
    if (worker->fs_base != fs)
        worker->fs_base = fs;
    int err = worker_execute(worker, wide, what, result);
    return err ? report_fault(&worker->fault) : 0;
}

int mv_hrt_call(struct mv_hrt *which, uint64_t *result, void *function, unsigned count,
                const uint64_t *args)
{
    typedef uint64_t any(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
    uint64_t a[6] = {0};
    if (!which || !function || count > 6)
        return fail(-EINVAL, "HRT call: %s; see multiverse.h",
                    !function ? "no function" : "more than 6 arguments");
    for (unsigned i = 0; i < count; i++)
        a[i] = args[i];
    if (current_worker()) {
        uint64_t value = ((any *)function)(a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result)
            *result = value;
        return 0;
    }
    if (hrt.phase != PHASE_OPEN)
        return refuse();
    struct worker *worker = take();
    if (hrt.phase != PHASE_OPEN) {
        release(worker);
        return refuse();
    }
    for (unsigned i = 0; i < count; i++)
        if (worker->args[i] != a[i]) // a line that is only looked at stays with both
            worker->args[i] = a[i];
    uint64_t value;
    int err = execute(worker, false, (uint64_t)function, &value);
    if (!err && result)
        *result = value;
    release(worker);
    return err;
}

int mv_hrt_invoke(struct mv_hrt *which, struct mv_call *call)
{
    if (!which || !call || !call->function)
        return fail(-EINVAL, "HRT call: no function; see multiverse.h");
    if (current_worker()) {
        invoke(call);
        return 0;
    }
    if (hrt.phase != PHASE_OPEN)
        return refuse();
    struct worker *worker = take();
    if (hrt.phase != PHASE_OPEN) {
        release(worker);
        return refuse();
    }
    uint64_t unused;
    int err = execute(worker, true, (uint64_t)call, &unused);
    if (err)
        call->fault = worker->fault;
    release(worker);
    return err;
}

int mv_hrt_submit(struct mv_hrt *which, struct mv_call *call, struct mv_task **ret)
{
    if (!which || !call || !call->function)
        return fail(-EINVAL, "HRT call: no function; see multiverse.h");
    if (hrt.phase != PHASE_OPEN)
        return refuse();
    struct mv_task *task = calloc(1, sizeof(*task));
    if (!task)
        return fail(-ENOMEM, "HRT call: no memory; free some");
    task->call = call;
    pthread_mutex_lock(&hrt.lock);
    bool open = hrt.phase == PHASE_OPEN;
    if (open) {
        struct mv_task **last = &hrt.first;
        while (*last)
            last = &(*last)->next;
        __atomic_store_n(last, task, __ATOMIC_SEQ_CST);
        struct worker *worker = take_free();
        if (worker)
            begin_task(worker);
    }
    pthread_mutex_unlock(&hrt.lock);
    if (!open) {
        free(task);
        return refuse();
    }
    *ret = task;
    return 0;
}

uint64_t mv_ros_call(uint64_t (*fn)(void *), void *arg)
{
    if (!current_worker() || hrt.within)
        return fn(arg);
    return (uint64_t)core_request(MV_AEROKERNEL_NATIVE, (uint64_t)fn, (uint64_t)arg);
}

// ---- Life ---------------------------------------------------------------------------------------

static void in_child(void)
{
    // Only the forking thread lives here, and maybe in the middle of a call that another made.
    if (hrt.phase == PHASE_NONE || hrt.phase == PHASE_CLOSED)
        return;
    if (!hrt.within && !current_worker()) // a function that forks has a child that is an HRT
        hrt.core.forked();
    pthread_mutex_init(&hrt.lock, NULL);
    pthread_cond_init(&hrt.freed, NULL);
    pthread_mutex_init(&life, NULL);
    for (unsigned i = 0; i < THREADS_MAX; i++)
        hrt.workers[i] = (struct worker){0};
    hrt.threads = 0;
    hrt.first = NULL;
    hrt.phase = PHASE_FORKED;
}

// Refuse further calls and wait until none is under way.
static void quiesce(void)
{
    pthread_mutex_lock(&hrt.lock);
    hrt.phase = PHASE_CLOSING;
    __atomic_add_fetch(&hrt.waiting, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < hrt.threads; i++)
        while (hrt.first || __atomic_load_n(&hrt.workers[i].owned, __ATOMIC_SEQ_CST))
            pthread_cond_wait(&hrt.freed, &hrt.lock);
    __atomic_sub_fetch(&hrt.waiting, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&hrt.lock);
}

static int make(const struct mv_hrt_options *o)
{
    if (core_request(MV_AEROKERNEL_HOSTED, 0, 0) == 0) {
        uint16_t cs;
        __asm__("mov %%cs, %0" : "=r"(cs));
        hrt.within = true; // the whole process is an HRT
        hrt.ring = cs & 3;
        return 0;
    }
    int err = load_core(&hrt, o->core, o->config ? o->config : "");
    if (err && (o->flags & MV_HRT_NATIVE) && !hrt.core.wrong_config) {
        hrt.within = true;
        hrt.ring = -1;
        return 0;
    }
    return err;
}

static int create(const struct mv_hrt_options *o)
{
    static bool prepared;
    if (hrt.phase != PHASE_NONE && hrt.phase != PHASE_CLOSED)
        return hrt.phase == PHASE_FORKED
                   ? fail(-ECHILD,
                          "HRT: this process was forked from one that has an HRT; execute a "
                          "program of its own")
                   : fail(-EBUSY, "HRT: this process has one already; destroy it or share it");
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
        return fail(-ENOTSUP, "HRT: the processor or Linux has no FSGSBASE; use another machine");
    if (!prepared) {
        void *frame;
        backtrace(&frame, 1); // loads what unwinding needs while nothing is wrong
        int err = pthread_atfork(NULL, NULL, in_child);
        if (err)
            return fail(-err, "HRT: %s; free memory", strerror(err));
        prepared = true;
    }
    hrt.within = false;
    hrt.stack_size = o->stack_size ? (o->stack_size + GUARD - 1) / GUARD * GUARD : STACK_DEFAULT;
    int err = make(o);
    if (err)
        return err;
    err = start_threads(o->threads ? o->threads : 1);
    if (err && !hrt.within)
        unload_core(&hrt);
    if (!err)
        hrt.phase = PHASE_OPEN;
    return err;
}

int mv_hrt_create(const struct mv_hrt_options *options, struct mv_hrt **ret)
{
    static const struct mv_hrt_options defaults;
    const struct mv_hrt_options *o = options ? options : &defaults;
    if (!ret || o->threads > THREADS_MAX || (o->stack_size && o->stack_size < (64UL << 10)))
        return fail(-EINVAL, "HRT: from 1 to %d threads with 64 KiB of stack at least; change them",
                    THREADS_MAX);
    pthread_mutex_lock(&life);
    int err = create(o);
    pthread_mutex_unlock(&life);
    if (!err)
        *ret = &hrt;
    return err;
}

static int boot_again(unsigned threads)
{
    int err = hrt.within ? 0 : hrt.core.reboot();
    if (err)
        return fail(err, "HRT: another virtual machine: %s; see multiverse doctor", strerror(-err));
    return start_threads(threads);
}

// End all threads, and the HRT unless it begins again.
static int end(struct mv_hrt *which, bool again)
{
    if (!which || current_worker())
        return fail(-EBUSY, "HRT: it cannot %s from within; call a native function",
                    again ? "reboot" : "be destroyed");
    pthread_mutex_lock(&life);
    int err = 0;
    if (hrt.phase != PHASE_OPEN) {
        err = refuse();
    } else {
        unsigned threads = hrt.threads;
        quiesce();
        end_threads();
        if (again)
            err = boot_again(threads);
        bool open = again && !err;
        if (!open && !hrt.within)
            unload_core(&hrt);
        hrt.phase = open ? PHASE_OPEN : PHASE_CLOSED;
    }
    pthread_mutex_unlock(&life);
    return err;
}

int mv_hrt_reboot(struct mv_hrt *which)
{
    return end(which, true);
}

int mv_hrt_destroy(struct mv_hrt *which)
{
    return end(which, false);
}
