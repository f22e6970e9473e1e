#include <asm/kvm.h>
#include <linux/fcntl.h>
#include <linux/kvm.h>
#include <linux/mman.h>

#include "aerokernel/cpu.h"
#include "base/fds.h"
#include "base/string.h"
#include "base/sys.h"
#include "hvm/hvm.h"

enum {
    MSR_TSC = 0x10,
    MSR_SYSENTER_CS = 0x174,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_FMASK = 0xc0000084,
    MSR_TSC_AUX = 0xc0000103,
};
enum { CPUID_CAPACITY = 256 };

// The registers live in the run area while the virtual CPU is out: KVM puts them there on the way
// out and takes what is marked dirty on the way in. An ioctl for either costs most of an exit on a
// software KVM.
#define SYNCED (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

// Where Intel processors without unrestricted guests need three pages of guest physical space.
#define KVM_TSS_GPA 0xfffbd000ULL

#define CR0_VALUE 0x80010033ULL // PG WP NE ET MP PE: WP, or CPL 0 would write through copy-on-write
#define CR4_BASE 0x620ULL       // PAE OSFXSR OSXMMEXCPT
#define CR4_FSGSBASE (1ULL << 16)
#define CR4_OSXSAVE (1ULL << 18)
#define EFER_VALUE 0xd01ULL // NXE LMA LME SCE
// Cleared on SYSCALL: TF, DF, AC, NT. IF stays, since no interrupt source exists.
#define FMASK_VALUE 0x44500ULL

static long kvm_ioctl(int fd, unsigned long request, uint64_t arg)
{
    return sys3(__NR_ioctl, fd, request, arg);
}

static long check_extension(const struct hvm *hvm, unsigned cap)
{
    return kvm_ioctl(hvm->kvm_fd, KVM_CHECK_EXTENSION, cap);
}

int hvm_open(struct hvm *hvm, unsigned phys_bits)
{
    hvm->vm_fd = -1;
    long fd = sys3(__NR_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return (int)fd;
    mv_fd_own(&hvm->kvm_fd, (int)fd);
    long version = kvm_ioctl(hvm->kvm_fd, KVM_GET_API_VERSION, 0);
    bool usable = version == KVM_API_VERSION && check_extension(hvm, KVM_CAP_IMMEDIATE_EXIT) > 0 &&
                  check_extension(hvm, KVM_CAP_USER_MEMORY) > 0 &&
                  (check_extension(hvm, KVM_CAP_SYNC_REGS) & SYNCED) == SYNCED;
    int err = usable ? hvm_cpuid_limits(hvm->kvm_fd, &hvm->limits) : -ENODEV;
    if (err) {
        mv_fd_close(&hvm->kvm_fd);
        return err;
    }
    long slots = check_extension(hvm, KVM_CAP_NR_MEMSLOTS);
    long vcpus = check_extension(hvm, KVM_CAP_MAX_VCPUS);
    hvm->limits.api_version = (unsigned)version;
    hvm->limits.slots = slots > 0 ? (unsigned)slots : 32; // what the API document promises
    hvm->limits.max_vcpus = vcpus > 0 ? (unsigned)vcpus : 4;
    if (phys_bits)
        hvm->limits.phys_bits = MIN(phys_bits, hvm->limits.phys_bits);
    return 0;
}

int hvm_create(struct hvm *hvm)
{
    long fd;
    do
        fd = kvm_ioctl(hvm->kvm_fd, KVM_CREATE_VM, 0);
    while (fd == -EINTR);
    if (fd < 0)
        return (int)fd;
    mv_fd_own(&hvm->vm_fd, (int)fd);
    kvm_ioctl(hvm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA); // unknown where it is not needed
    return 0;
}

void hvm_close(struct hvm *hvm)
{
    mv_fd_close(&hvm->vm_fd);
}

int hvm_map(struct hvm *hvm, unsigned slot, uint64_t gpa, uint64_t host, uint64_t size)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = host};
    return (int)kvm_ioctl(hvm->vm_fd, KVM_SET_USER_MEMORY_REGION, (uint64_t)&region);
}

static void set_code_and_stack(struct kvm_sregs *sregs, unsigned ring)
{
    struct kvm_segment code = {.limit = 0xffffffff,
                               .selector = ring ? AK_USER_CS : AK_KERNEL_CS,
                               .type = 11,
                               .present = 1,
                               .dpl = (uint8_t)ring,
                               .s = 1,
                               .l = 1,
                               .g = 1};
    struct kvm_segment stack = code;
    stack.selector = ring ? AK_USER_SS : AK_KERNEL_SS;
    stack.type = 3;
    stack.l = 0;
    stack.db = 1;
    sregs->cs = code;
    sregs->ss = stack;
}

static int init_registers(struct hvm_vcpu *vcpu, const struct hvm *hvm, const struct hvm_boot *boot)
{
    struct kvm_sregs *sregs = &vcpu->run->s.regs.sregs;
    long err = kvm_ioctl(vcpu->fd, KVM_GET_SREGS, (uint64_t)sregs);
    if (err < 0)
        return (int)err;
    set_code_and_stack(sregs, boot->ring);
    struct kvm_segment data = {.limit = 0xffffffff, .type = 3, .unusable = 1, .dpl = 3, .s = 1};
    sregs->ds = sregs->es = sregs->fs = sregs->gs = data;
    sregs->gdt.base = ak_gdt_address(boot->window);
    sregs->gdt.limit = AK_GDT_ENTRIES * 8 - 1;
    sregs->idt.base = boot->idt;
    sregs->idt.limit = AK_IDT_VECTORS * 16 - 1;
    sregs->tr = (struct kvm_segment){.base = ak_tss_address(boot->window),
                                     .limit = 0x67,
                                     .selector = AK_TSS,
                                     .type = 11,
                                     .present = 1};
    sregs->cr0 = CR0_VALUE;
    sregs->cr3 = boot->cr3;
    sregs->cr4 =
        CR4_BASE | (hvm->limits.fsgsbase ? CR4_FSGSBASE : 0) | (hvm->limits.xcr0 ? CR4_OSXSAVE : 0);
    sregs->efer = EFER_VALUE;
    vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
    return 0;
}

// One model-specific register. Returns the ioctl's result: 1, or a refusal.
static long set_msr(struct hvm_vcpu *vcpu, uint32_t index, uint64_t data)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msr = {.head.nmsrs = 1, .entry = {.index = index, .data = data}};
    return kvm_ioctl(vcpu->fd, KVM_SET_MSRS, (uint64_t)&msr);
}

void hvm_vcpu_set_cpu_node(struct hvm_vcpu *vcpu, uint32_t cpu_node)
{
    set_msr(vcpu, MSR_TSC_AUX, cpu_node); // refused where RDTSCP is not offered either
}

int hvm_vcpu_set_entry(struct hvm_vcpu *vcpu, uint64_t entry)
{
    long n = set_msr(vcpu, MSR_LSTAR, entry);
    return n == 1 ? 0 : n < 0 ? (int)n : -EINVAL;
}

static int set_msrs(struct hvm_vcpu *vcpu, const struct hvm_boot *boot)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[4];
    } msrs = {.head.nmsrs = 4,
              .entries = {{.index = MSR_STAR,
                           .data = (uint64_t)AK_KERNEL_CS << 32 | (AK_USER_CS - 16ULL) << 48},
                          {.index = MSR_LSTAR, .data = boot->entry},
                          {.index = MSR_SYSENTER_CS, .data = AK_USER_CS - 32 - 3},
                          {.index = MSR_FMASK, .data = FMASK_VALUE}}};
    long n = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, (uint64_t)&msrs);
    if (n != 4)
        return n < 0 ? (int)n : -EINVAL;
    hvm_vcpu_set_cpu_node(vcpu, boot->cpu_node);
    return 0;
}

// Make the guest's TSC the host's, or the vdso would tell another time.
static void set_tsc(struct hvm_vcpu *vcpu)
{
    uint64_t offset = 0;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)&offset};
    if (kvm_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, (uint64_t)&attr) == 0)
        return;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msr = {.head.nmsrs = 1, .entry = {.index = MSR_TSC}};
    // Before Linux 5.16 an offset cannot be given. Some substrates have none to begin with; for
    // the others KVM takes a write of the current value as a wish to be in step.
    long n = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, (uint64_t)&msr);
    int64_t behind = (int64_t)(rdtsc() - msr.entry.data);
    if (n == 1 && behind >= 0 && behind < 10000000)
        return;
    set_msr(vcpu, MSR_TSC, rdtsc());
}

static int set_cpuid(struct hvm *hvm, struct hvm_vcpu *vcpu)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[CPUID_CAPACITY];
    } cpuid;
    memset(&cpuid.head, 0, sizeof(cpuid.head));
    if (!hvm_cpuid_fill(&hvm->limits, vcpu->id, &cpuid.head, CPUID_CAPACITY))
        return -ENODEV;
    return (int)kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, (uint64_t)&cpuid);
}

int hvm_vcpu_create(struct hvm *hvm, struct hvm_vcpu *vcpu, const struct hvm_boot *boot)
{
    long fd = kvm_ioctl(hvm->vm_fd, KVM_CREATE_VCPU, vcpu->id);
    if (fd < 0)
        return (int)fd;
    mv_fd_own(&vcpu->fd, (int)fd);
    long run_size = kvm_ioctl(hvm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    int err = run_size < (long)PAGE_SIZE || run_size > (long)HVM_RUN_BYTES ? -ENODEV : 0;
    if (!err) {
        uint64_t run = sys_mmap((uint64_t)vcpu->run, (uint64_t)run_size, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_FIXED, vcpu->fd, 0);
        err = sys_failed(run) ? (int)run : 0;
    }
    if (!err)
        err = set_cpuid(hvm, vcpu);
    if (!err && hvm->limits.xcr0) {
        struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = hvm->limits.xcr0};
        err = (int)kvm_ioctl(vcpu->fd, KVM_SET_XCRS, (uint64_t)&xcrs);
    }
    if (!err)
        err = init_registers(vcpu, hvm, boot);
    if (!err)
        err = set_msrs(vcpu, boot);
    if (err) {
        mv_fd_close(&vcpu->fd);
        return err;
    }
    set_tsc(vcpu);
    return 0;
}

void hvm_vcpu_close(struct hvm_vcpu *vcpu)
{
    // The mapping, too, would keep the VM alive, and with it KVM's worker thread in this process.
    if (vcpu->fd >= 0)
        sys_mmap((uint64_t)vcpu->run, HVM_RUN_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mv_fd_close(&vcpu->fd);
}

struct hvm_exit hvm_vcpu_run(struct hvm_vcpu *vcpu)
{
    long err = kvm_ioctl(vcpu->fd, KVM_RUN, 0);
    if (err == -EINTR || err == -EAGAIN)
        return (struct hvm_exit){.kind = HVM_EXIT_INTERRUPT};
    if (err == -EFAULT)
        return (struct hvm_exit){.kind = HVM_EXIT_FAULT};
    if (err < 0)
        return (struct hvm_exit){.kind = err == -EIO ? HVM_EXIT_DEAD : HVM_EXIT_REFUSED,
                                 .address = (uint64_t)-err};
    const struct kvm_run *run = vcpu->run;
    switch (run->exit_reason) {
    case KVM_EXIT_MMIO:
        if (run->mmio.is_write)
            return (struct hvm_exit){.kind = HVM_EXIT_STORE, .address = run->mmio.phys_addr};
        break;
    case KVM_EXIT_IO:
        if (run->io.direction == KVM_EXIT_IO_OUT)
            return (struct hvm_exit){.kind = HVM_EXIT_PORT, .address = run->io.port};
        memset((char *)vcpu->run + run->io.data_offset, 0xff, run->io.size * run->io.count);
        return (struct hvm_exit){.kind = HVM_EXIT_NOTHING};
    case KVM_EXIT_HLT:
        return (struct hvm_exit){.kind = HVM_EXIT_HALT};
    case KVM_EXIT_INTERNAL_ERROR: // KVM has met something that it cannot emulate or deliver
        return (struct hvm_exit){.kind = HVM_EXIT_FAULT};
    case KVM_EXIT_INTR:
        return (struct hvm_exit){.kind = HVM_EXIT_INTERRUPT};
    default:
        break;
    }
    return (struct hvm_exit){.kind = HVM_EXIT_FAILURE, .address = run->exit_reason};
}

void hvm_kick(struct hvm_vcpu *vcpu)
{
    WRITE_ONCE(vcpu->run->immediate_exit, 1);
}

void hvm_unkick(struct hvm_vcpu *vcpu)
{
    WRITE_ONCE(vcpu->run->immediate_exit, 0);
}

void hvm_vcpu_finish_exit(struct hvm_vcpu *vcpu)
{
    uint8_t kicked = READ_ONCE(vcpu->run->immediate_exit);
    hvm_kick(vcpu);
    kvm_ioctl(vcpu->fd, KVM_RUN, 0);
    WRITE_ONCE(vcpu->run->immediate_exit, kicked);
}

void hvm_vcpu_get_state(const struct hvm_vcpu *vcpu, struct hvm_state *ret, uint64_t *cr2)
{
    const struct kvm_sync_regs *now = &vcpu->run->s.regs;
    ret->regs = now->regs;
    ret->fs_base = now->sregs.fs.base;
    ret->gs_base = now->sregs.gs.base;
    ret->cr3 = now->sregs.cr3;
    if (cr2)
        *cr2 = now->sregs.cr2;
}

void hvm_vcpu_get_control(const struct hvm_vcpu *vcpu, struct hvm_control *ret)
{
    const struct kvm_sregs *sregs = &vcpu->run->s.regs.sregs;
    *ret = (struct hvm_control){.cr0 = sregs->cr0,
                                .cr2 = sregs->cr2,
                                .cr3 = sregs->cr3,
                                .cr4 = sregs->cr4,
                                .efer = sregs->efer};
}

void hvm_vcpu_set_state(struct hvm_vcpu *vcpu, unsigned ring, const struct hvm_state *state)
{
    struct kvm_sync_regs *next = &vcpu->run->s.regs;
    next->regs = state->regs;
    set_code_and_stack(&next->sregs, ring);
    next->sregs.fs.base = state->fs_base;
    next->sregs.gs.base = state->gs_base;
    // An exception on its way to the guest belongs to the old state.
    memset(&next->events, 0, sizeof(next->events));
    vcpu->run->kvm_dirty_regs |= SYNCED;
}

void hvm_vcpu_set_bases(struct hvm_vcpu *vcpu, uint64_t fs, uint64_t gs)
{
    vcpu->run->s.regs.sregs.fs.base = fs;
    vcpu->run->s.regs.sregs.gs.base = gs;
    vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

uint64_t hvm_tsc_hz(struct hvm_vcpu *vcpu)
{
    long khz = kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    return khz > 0 ? (uint64_t)khz * 1000 : 2000000000;
}

int hvm_vcpu_get_xsave(struct hvm_vcpu *vcpu, void *buffer)
{
    return (int)kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, (uint64_t)buffer);
}

int hvm_vcpu_set_xsave(struct hvm_vcpu *vcpu, const void *buffer)
{
    return (int)kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, (uint64_t)buffer);
}
