#include <asm/kvm.h>
#include <linux/kvm.h>

#include "base/string.h"
#include "base/sys.h"
#include "hvm/hvm.h"

enum { CPUID_MAX = 256, CPUID_KVM_BASE = 0x40000000 };

// Components of XCR0 that need a permission of their own and more room than HVM_XSAVE_BYTES.
#define XCR0_AMX (3ULL << 17)
// Not offered: the HRT's page tables carry no protection keys.
#define XCR0_PKRU (1ULL << 9)

struct cpuid_buffer {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[CPUID_MAX];
};

struct cpuid_regs {
    uint32_t a, b, c, d;
};

// What a virtual CPU is told, but for its number and for hvm_limits. Made once: where the processor
// is itself a virtual one every CPUID is an exit.
static struct cpuid_buffer told;

static struct cpuid_regs cpuid(uint32_t leaf, uint32_t index)
{
    struct cpuid_regs r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(index));
    return r;
}

static bool host_has_osxsave(void)
{
    return cpuid(1, 0).c >> 27 & 1;
}

static uint64_t host_xcr0(void)
{
    uint32_t lo, hi;
    if (!host_has_osxsave())
        return 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo | (uint64_t)hi << 32;
}

static bool host_has_fsgsbase(void)
{
    // HWCAP2 bit 1 would say the same; the instruction itself is the better witness, but it may
    // fault, so ask CPUID: Linux enables CR4.FSGSBASE wherever it exists since 5.9.
    return cpuid(0, 0).a >= 7 && (cpuid(7, 0).b & 1);
}

static uint64_t xsave_size(uint64_t xcr0)
{
    uint64_t size = 512 + 64;
    for (unsigned i = 2; i < 63; i++) {
        if (!(xcr0 >> i & 1))
            continue;
        struct cpuid_regs r = cpuid(0xd, i);
        size = MAX(size, (uint64_t)r.a + r.b);
    }
    return size;
}

// Leaves whose values are feature bits: what the host has is cut down to what KVM supports.
// All others describe the processor, and the program shall see the real one.
static void cut_features(struct kvm_cpuid_entry2 *e, const struct cpuid_regs *host)
{
    switch (e->function) {
    case 1:
        e->ecx &= host->c | 1U << 27; // OSXSAVE follows CR4
        e->edx &= host->d;
        e->ecx |= host->c & 1U << 31; // seen natively too: "a hypervisor is there"
        e->eax = host->a;
        break;
    case 7:
        if (e->index == 0) {
            e->ebx &= host->b;
            e->ecx &= host->c & ~(1U << 3 | 1U << 4);              // PKU, OSPKE
            e->edx &= host->d & ~(1U << 22 | 1U << 24 | 1U << 25); // AMX
        } else if (e->index == 1) {
            e->eax &= host->a & ~(1U << 21); // AMX-FP16
            e->edx &= host->d & ~(1U << 4 | 1U << 8);
        }
        break;
    case 0xd:
        if (e->index == 1)
            e->eax &= host->a & ~(1U << 4); // no XFD without AMX
        break;
    case 0x80000001:
        e->ecx &= host->c & ~(1U << 2); // SVM is not nested
        e->edx &= host->d;
        break;
    case 0x80000008:
        e->ebx &= host->b;
        break;
    default:
        e->eax = host->a, e->ebx = host->b, e->ecx = host->c, e->edx = host->d;
    }
}

static void tell(const struct kvm_cpuid_entry2 *supported)
{
    struct kvm_cpuid_entry2 e = *supported;
    bool keep = e.function < CPUID_KVM_BASE || e.function >= 0x80000000;
    if (!keep || e.function == 0x1d || e.function == 0x1e)
        return; // KVM's paravirtual leaves; AMX
    struct cpuid_regs host = cpuid(e.function, e.index);
    cut_features(&e, &host);
    if (e.function == 1)
        e.ebx = host.b;
    if (e.function == 0x80000008)
        e.eax = host.a;
    told.entries[told.head.nent++] = e;
}

int hvm_cpuid_limits(int kvm_fd, struct hvm_limits *ret)
{
    struct cpuid_buffer supported;
    supported.head.nent = CPUID_MAX;
    long err = sys3(__NR_ioctl, kvm_fd, KVM_GET_SUPPORTED_CPUID, &supported.head);
    if (err < 0)
        return (int)err;
    uint64_t xcr0 = 0;
    ret->phys_bits = 36;
    told.head.nent = 0;
    for (unsigned i = 0; i < supported.head.nent; i++) {
        const struct kvm_cpuid_entry2 *e = &supported.entries[i];
        if (e->function == 0xd && e->index == 0)
            xcr0 = e->eax | (uint64_t)e->edx << 32;
        if (e->function == 0x80000008)
            ret->phys_bits = e->eax & 0xff;
        tell(e);
    }
    ret->xcr0 = xcr0 & host_xcr0() & ~(XCR0_AMX | XCR0_PKRU);
    ret->xsave_size = xsave_size(ret->xcr0);
    ret->fsgsbase = host_has_fsgsbase();
    return 0;
}

unsigned hvm_cpuid_fill(const struct hvm_limits *limits, unsigned id, struct kvm_cpuid2 *ret,
                        unsigned capacity)
{
    unsigned n = MIN(told.head.nent, capacity);
    for (unsigned i = 0; i < n; i++) {
        struct kvm_cpuid_entry2 e = told.entries[i];
        if (e.function == 1)
            e.ebx = (e.ebx & 0x00ffffff) | id << 24;
        if (e.function == 0xb || e.function == 0x1f)
            e.edx = id;
        if (e.function == 0xd && e.index == 0)
            e.eax = (uint32_t)limits->xcr0, e.edx = (uint32_t)(limits->xcr0 >> 32),
            e.ebx = e.ecx = (uint32_t)limits->xsave_size;
        if (e.function == 0xd && e.index > 1 && !(limits->xcr0 >> (e.index & 63) & 1))
            e.eax = e.ebx = e.ecx = e.edx = 0;
        if (e.function == 0x80000008)
            e.eax = (e.eax & ~0xffU) | limits->phys_bits;
        ret->entries[i] = e;
    }
    ret->nent = n;
    return n;
}
