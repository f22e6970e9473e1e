// Running the virtual CPUs, and answering what the program asks for.

#include <asm/poll.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/time_types.h>

#include "base/print.h"
#include "base/region.h"
#include "base/sys.h"
#include "base/thread.h"
#include "include/aerokernel/page.h"
#include "monitor/monitor.h"

enum { STDOUT = 1 };
#define NS 1000000000ULL
#define THREAD_STACK_BYTES KIB(64)

// ---- Requests; arguments are anyone's -----------------------------------------------------------

static int64_t do_write(uint64_t at, uint64_t size)
{
    const char *bytes = mon_memory(at, size);
    if (!bytes)
        return -EFAULT;
    while (size) {
        long written = sys3(__NR_write, STDOUT, bytes, size);
        if (written > 0) {
            bytes += written;
            size -= (uint64_t)written;
        } else if (written == -EAGAIN) {
            struct pollfd out = {.fd = STDOUT, .events = POLLOUT};
            sys3(__NR_poll, &out, 1, -1);
        } else if (written != -EINTR) {
            return written;
        }
    }
    return 0;
}

static int64_t do_sleep(struct mon_cpu *cpu, uint64_t ns)
{
    struct __kernel_timespec time = {.tv_sec = (int64_t)(ns / NS), .tv_nsec = (int64_t)(ns % NS)};
    if (!__atomic_exchange_n(&cpu->woken, 0, __ATOMIC_ACQUIRE))
        sys4(__NR_futex, &cpu->woken, FUTEX_WAIT_PRIVATE, 0, ns == ~0ULL ? NULL : &time);
    __atomic_store_n(&cpu->woken, 0, __ATOMIC_RELEASE);
    return 0;
}

static int64_t do_wake(uint64_t number)
{
    if (number >= mon.config.cpus)
        return -EINVAL;
    struct mon_cpu *cpu = &mon.cpu[number];
    __atomic_store_n(&cpu->woken, 1, __ATOMIC_SEQ_CST);
    sys3(__NR_futex, &cpu->woken, FUTEX_WAKE_PRIVATE, 1);
    return 0;
}

// Have virtual CPUs forget translations. Linux tells KVM of every change of a mapping; to allow
// execution and to forbid it again is one that nobody can see.
static void drop(char *host, uint64_t size)
{
    sys3(__NR_mprotect, host, size, PROT_READ | PROT_WRITE | PROT_EXEC);
    sys3(__NR_mprotect, host, size, PROT_READ | PROT_WRITE);
}

// Requests that concern the entries of a range.
static int64_t do_tables(const struct mv_call *call)
{
    uint64_t start = call->arg[0], size = call->arg[1];
    char *host = mon_memory(start, size);
    bool less = call->op == MV_CALL_DROP;
    int64_t result = 0;
    if (!host || !size || start % PAGE_SIZE || size % PAGE_SIZE)
        return -EINVAL;
    struct ak_paging *paging = &mon.layout.paging;
    mv_lock(&mon.tables_lock);
    if (call->op == MV_CALL_PREPARE)
        result = ak_split(paging, start, size);
    else if (call->op == MV_CALL_PROTECT)
        result = call->arg[2] <= AK_PAGE_WRITE
                     ? ak_claim(paging, start, size, (unsigned)call->arg[2], NULL, &less)
                     : -EINVAL;
    else if (call->op == MV_CALL_TEST)
        result = ak_count(paging, start, size, call->arg[2] & (AK_PAGE_ACCESSED | AK_PAGE_DIRTY),
                          call->arg[3], NULL, &less);
    if (less)
        drop(host, size);
    mv_unlock(&mon.tables_lock);
    return result;
}

static void do_end(uint64_t status, uint64_t at, uint64_t size)
{
    size = MIN(size, (uint64_t)MON_REPORT_MAX);
    const char *text = mon_memory(at, size);
    mon_end((int)(status & 0xff), text, text ? size : 0);
}

static int64_t answer(struct mon_cpu *cpu, const struct mv_call *call)
{
    switch (call->op) {
    case MV_CALL_WRITE:
        return do_write(call->arg[0], call->arg[1]);
    case MV_CALL_SLEEP:
        return do_sleep(cpu, call->arg[0]);
    case MV_CALL_WAKE:
        return do_wake(call->arg[0]);
    case MV_CALL_PREPARE:
    case MV_CALL_PROTECT:
    case MV_CALL_TEST:
    case MV_CALL_DROP:
        return do_tables(call);
    case MV_CALL_END:
        do_end(call->arg[0], call->arg[1], call->arg[2]);
        return 0;
    default:
        return -ENOSYS;
    }
}

static void rung(struct mon_cpu *cpu)
{
    volatile struct mv_call *shared = (volatile struct mv_call *)cpu->call;
    struct mv_call call = {.op = shared->op};
    for (unsigned i = 0; i < ARRAY_SIZE(call.arg); i++)
        call.arg[i] = shared->arg[i];
    shared->result = answer(cpu, &call);
}

// ---- Virtual CPUs -------------------------------------------------------------------------------

static void run(void *arg)
{
    struct mon_cpu *cpu = arg;
    for (;;) {
        struct hvm_exit exit = hvm_vcpu_run(&cpu->vcpu);
        switch (exit.kind) {
        case HVM_EXIT_STORE:
            if (exit.address != MON_DOORBELL_GPA)
                mon_end_failed(cpu, exit);
            rung(cpu);
            break;
        case HVM_EXIT_PORT: // behind other ports there is nothing
            if (exit.address == AK_PORT_DOORBELL)
                rung(cpu);
            break;
        case HVM_EXIT_INTERRUPT:
        case HVM_EXIT_NOTHING:
            break;
        case HVM_EXIT_HALT:
            sys0(__NR_sched_yield); // no interrupt would end it
            break;
        default:
            mon_end_failed(cpu, exit);
        }
    }
}

static void start_thread(struct mon_cpu *cpu)
{
    char *stack = mv_region_alloc(THREAD_STACK_BYTES);
    int64_t err = stack ? mv_thread((uint64_t)stack + THREAD_STACK_BYTES, run, cpu) : -ENOMEM;
    if (err < 0)
        mv_die(MV_EXIT_FAILURE, "kernel: thread of a virtual CPU: %s; give fewer --cpus",
               mv_strerror(err));
}

void mon_run(void)
{
    for (unsigned id = 1; id < mon.config.cpus; id++)
        start_thread(&mon.cpu[id]);
    run(&mon.cpu[0]);
    __builtin_unreachable();
}
