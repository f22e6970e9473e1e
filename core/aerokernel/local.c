// Virtual CPUs as programs see them.

#include <asm/errno.h>

#include "aerokernel/kernel.h"
#include "base/string.h"
#include "base/sys.h"
#include "include/aerokernel/memory.h"

// Windows below this number exist: virtual CPUs are numbered from 0 and never go away.
static unsigned known;

struct ak_local *ak_local_of(unsigned cpu)
{
    if (cpu == ~0u)
        return ak_local();
    if (cpu >= __atomic_load_n(&known, __ATOMIC_ACQUIRE))
        return NULL;
    struct ak_local *local = (struct ak_local *)(AK_WINDOW((uint64_t)cpu) + AK_CPU_OFFSET);
    return local->attached ? local : NULL;
}

// ak_attach(), once the ROS has agreed (stubs.S).
int ak_attach_cpu(void);
int ak_attach_cpu(void)
{
    uint64_t window;
    __asm__ volatile("rdgsbase %0" : "=r"(window));
    uint64_t offset = window - AK_WINDOWS;
    if (offset >= AK_WINDOWS_MAX * AK_WINDOW_STRIDE)
        return -EOPNOTSUPP;
    struct ak_local *cpu = ak_local();
    if (cpu->attached)
        return 0;
    cpu->id = (unsigned)(offset / AK_WINDOW_STRIDE);
    cpu->own.cpu = cpu;
    cpu->current = &cpu->own;
    cpu->asleep = ak_zalloc(64); // a cache line
    if (!cpu->asleep)
        return -ENOMEM;
    unsigned seen = __atomic_load_n(&known, __ATOMIC_RELAXED);
    __atomic_store_n(&cpu->attached, true, __ATOMIC_RELEASE);
    while (seen <= cpu->id && !__atomic_compare_exchange_n(&known, &seen, cpu->id + 1, false,
                                                           __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    return 0;
}

unsigned ak_ring(void)
{
    uint16_t cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    return cs & 3;
}

unsigned ak_cpu(void)
{
    return ak_local()->id;
}

unsigned ak_cpu_count(void)
{
    unsigned count = 0, end = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < end; i++)
        count += ak_local_of(i) != NULL;
    return count;
}

void *ak_cpu_get(unsigned slot)
{
    return slot < AK_CPU_SLOTS ? ak_local()->slots[slot] : NULL;
}

void ak_cpu_set(unsigned slot, void *value)
{
    if (slot < AK_CPU_SLOTS)
        ak_local()->slots[slot] = value;
}

int ak_cpu_call(unsigned cpu, void (*fn)(void *), void *arg)
{
    struct ak_local *local = ak_local_of(cpu);
    if (!local)
        return -EINVAL;
    struct ak_cpu_call *call = ak_alloc(sizeof(*call));
    if (!call)
        return -ENOMEM;
    *call = (struct ak_cpu_call){.fn = fn, .arg = arg};
    ak_spin_lock(&local->lock);
    struct ak_cpu_call **end = &local->calls;
    while (*end)
        end = &(*end)->next;
    *end = call;
    ak_spin_unlock(&local->lock);
    ak_wake(local);
    return 0;
}

int ak_cr_read(unsigned number, uint64_t *ret)
{
    if (ak_ring())
        return -EPERM;
    switch (number) {
    case 0:
        __asm__ volatile("mov %%cr0, %0" : "=r"(*ret));
        return 0;
    case 2:
        __asm__ volatile("mov %%cr2, %0" : "=r"(*ret));
        return 0;
    case 3:
        __asm__ volatile("mov %%cr3, %0" : "=r"(*ret));
        return 0;
    case 4:
        __asm__ volatile("mov %%cr4, %0" : "=r"(*ret));
        return 0;
    case 8:
        __asm__ volatile("mov %%cr8, %0" : "=r"(*ret));
        return 0;
    default:
        return -EINVAL;
    }
}

int ak_msr_read(uint32_t msr, uint64_t *ret)
{
    uint32_t low, high;
    if (ak_ring())
        return -EPERM;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    *ret = low | (uint64_t)high << 32;
    return 0;
}

int ak_msr_write(uint32_t msr, uint64_t value)
{
    if (ak_ring())
        return -EPERM;
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
    return 0;
}

int ak_pmc_read(uint32_t counter, uint64_t *ret)
{
    uint32_t low, high;
    if (ak_ring())
        return -EPERM;
    __asm__ volatile("rdpmc" : "=a"(low), "=d"(high) : "c"(counter));
    *ret = low | (uint64_t)high << 32;
    return 0;
}
