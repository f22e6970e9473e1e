// The platform of an HRT: the Linux process whose program this is, through system calls, which the
// program could make as well.

#include "aerokernel/platform.h"

#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/time_types.h>

#include "abi/channel.h"
#include "aerokernel/kernel.h"
#include "base/sys.h"
#include "superposition/sigframe.h"

enum { STDERR = 2 };
#define NS 1000000000ULL

const struct mv_machine *ak_machine = &((const struct mv_control *)AK_CONTROL_PAGE)->machine;

// Of the HRT's share of memory, where it has one, what an arena can have; 0: nothing.
static uint64_t next_arena(void)
{
    static uint64_t taken; // with the allocator's lock held
    uint64_t limit = ak_machine->memory_limit, bytes = AK_ARENA_BYTES;
    if (limit)
        bytes = MIN(bytes, ALIGN_DOWN(limit - MIN(taken, limit), LEAF_SIZE));
    taken += bytes;
    return bytes;
}

bool ak_platform_memory(uint64_t *start, uint64_t *size)
{
    uint64_t bytes = next_arena();
    if (!bytes)
        return false;
    uint64_t at = sys_mmap(0, 2 * AK_ARENA_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys_failed(at))
        return false;
    uint64_t base = ALIGN_UP(at, AK_ARENA_BYTES);
    if (base > at)
        sys2(__NR_munmap, at, base - at);
    if (base + bytes < at + 2 * AK_ARENA_BYTES)
        sys2(__NR_munmap, base + bytes, at + 2 * AK_ARENA_BYTES - base - bytes);
    sys3(__NR_madvise, base, bytes, MADV_HUGEPAGE);
    *start = base;
    *size = bytes;
    return true;
}

// The partner sleeps, in a futex.
void ak_platform_sleep(struct ak_local *cpu, uint64_t ns)
{
    struct __kernel_timespec time = {.tv_sec = (int64_t)(ns / NS), .tv_nsec = (int64_t)(ns % NS)};
    sys4(__NR_futex, cpu->asleep, FUTEX_WAIT_PRIVATE, 1, ns == ~0ULL ? NULL : &time);
}

void ak_platform_wake(struct ak_local *cpu)
{
    sys3(__NR_futex, cpu->asleep, FUTEX_WAKE_PRIVATE, 1);
}

struct ak_xstate ak_platform_xstate(const char *window)
{
    const struct mv_signals *signals = (const struct mv_signals *)(window + AK_SIGNALS_OFFSET);
    return sf_xstate(signals->xfeatures, signals->xsave_size);
}

void ak_platform_write(const char *bytes, size_t size)
{
    while (size) {
        long written = sys3(__NR_write, STDERR, bytes, size);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            return;
        bytes += written;
        size -= (size_t)written;
    }
}

void ak_platform_overrun(void)
{
    sys3(__NR_tgkill, sys0(__NR_getpid), sys0(__NR_gettid), SIGABRT);
    sys_exit_group(128 + SIGABRT);
}

int ak_platform_prepare(uint64_t start, uint64_t size)
{
    return (int)sys3(MV_NR_AEROKERNEL, MV_AEROKERNEL_PREPARE, start, size);
}

int ak_platform_drop(uint64_t start, uint64_t size)
{
    return (int)sys3(MV_NR_AEROKERNEL, MV_AEROKERNEL_DROP, start, size);
}

static const int prot_of[] = {
    [AK_PAGE_NONE] = PROT_NONE,
    [AK_PAGE_READ] = PROT_READ,
    [AK_PAGE_WRITE] = PROT_READ | PROT_WRITE,
};

int ak_platform_release(uint64_t start, uint64_t size, enum ak_page_access access)
{
    return (int)sys4(MV_NR_AEROKERNEL, MV_AEROKERNEL_RELEASE, start, size, prot_of[access]);
}

int ak_platform_protect(uint64_t start, uint64_t size, enum ak_page_access access)
{
    return (int)sys3(__NR_mprotect, start, size, prot_of[access]);
}

long ak_platform_test(uint64_t start, uint64_t size, unsigned bits, bool clear)
{
    (void)start, (void)size, (void)bits, (void)clear;
    return -EPERM;
}
