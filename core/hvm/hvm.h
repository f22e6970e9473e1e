// The hybrid virtual machine: the one interface to whatever substrate runs guest code. kvm.c
// implements it over the KVM API; another substrate is another implementation of this header.
// Nothing here knows of system calls, signals or the program.
#ifndef MV_HVM_HVM_H
#define MV_HVM_HVM_H

#include <asm/kvm.h>

#include "base/types.h"

// Bytes of extended state that a substrate moves in the standard (non-compacted) XSAVE format.
enum { HVM_XSAVE_BYTES = 4096 };

// Room that the caller provides at hvm_vcpu.run for the area shared with the substrate.
enum { HVM_RUN_BYTES = 16384 };

struct hvm_limits {
    unsigned api_version;
    unsigned slots;      // memory slots
    unsigned max_vcpus;  // virtual CPUs
    unsigned phys_bits;  // width of guest physical addresses
    uint64_t xcr0;       // extended state components that guest and host have in common
    uint64_t xsave_size; // bytes of the standard XSAVE area for them
    bool fsgsbase; // the processor and the host's kernel let programs use RDFSBASE and its kin
};

struct hvm {
    int kvm_fd, vm_fd;
    struct hvm_limits limits;
};

struct hvm_vcpu {
    int fd;              // -1 while the virtual CPU does not exist in this VM
    unsigned id;         // also the number of its AeroKernel window
    struct kvm_run *run; // HVM_RUN_BYTES of reserved address space, given by the owner
};

// General registers and what of the segment state a program can change.
struct hvm_state {
    struct kvm_regs regs;
    uint64_t fs_base, gs_base;
    uint64_t cr3; // read only: hvm_vcpu_set_state() leaves it alone
};

// Control registers, for a debugger.
struct hvm_control {
    uint64_t cr0, cr2, cr3, cr4, efer;
};

// How a virtual CPU is set up before its first instruction.
struct hvm_boot {
    unsigned ring;       // 0 or 3: the privilege the program runs at
    uint64_t cr3;        // guest physical address of the root table
    uint64_t window;     // guest virtual address of its AeroKernel window
    uint64_t idt, entry; // guest virtual: the IDT, the LSTAR entry
    uint32_t cpu_node;   // what RDPID shall give: cpu | node << 12
};

enum hvm_exit_kind {
    HVM_EXIT_STORE,     // a store where no memory is; address: guest physical
    HVM_EXIT_PORT,      // an OUT; address: the port
    HVM_EXIT_FAULT,     // the substrate cannot execute the next instruction: most often because
                        // Linux does not map, or forbids, what it accesses
    HVM_EXIT_INTERRUPT, // a signal, or hvm_kick()
    HVM_EXIT_HALT,      // HLT
    HVM_EXIT_NOTHING,   // an IN; no device is there, so it reads all ones
    HVM_EXIT_DEAD,      // the VM belongs to another address space (after fork)
    HVM_EXIT_REFUSED,   // the substrate does not run the virtual CPU; address: an errno
    HVM_EXIT_FAILURE,   // the substrate cannot go on; address: its reason
};

struct hvm_exit {
    enum hvm_exit_kind kind;
    uint64_t address;
};

// All functions that return int return 0 or a negative errno.

// Open the substrate. phys_bits: narrow the physical address width to this, or 0. Opening may
// fail where programs then run natively: -ENOENT, -EACCES, -ENODEV ... tell why.
int hvm_open(struct hvm *hvm, unsigned phys_bits);

// Make the VM. Again in a forked child, whose inherited VM is dead.
int hvm_create(struct hvm *hvm);
void hvm_close(struct hvm *hvm);

// Put host memory [host, host+size) at guest physical gpa; slot numbers start at 0.
int hvm_map(struct hvm *hvm, unsigned slot, uint64_t gpa, uint64_t host, uint64_t size);

// Make virtual CPU vcpu->id and set it up; *vcpu gets its descriptor and run area.
int hvm_vcpu_create(struct hvm *hvm, struct hvm_vcpu *vcpu, const struct hvm_boot *boot);
// Give up the descriptor (KVM keeps the virtual CPU until the VM goes).
void hvm_vcpu_close(struct hvm_vcpu *vcpu);

// Run the guest until it leaves.
struct hvm_exit hvm_vcpu_run(struct hvm_vcpu *vcpu);

// Run to the next exit, as often as a signal interrupts. Returns the TSC cycles that it took, or ~0
// if it is not of this kind.
uint64_t hvm_measure_run(struct hvm_vcpu *vcpu, enum hvm_exit_kind kind);
// Learn how code at CPL 0 is executed, on a virtual CPU whose state is lost: by the processor (a
// hardware KVM), or interpreted (a software one). probe: guest virtual address of ak_probe.
// *cpl0_cycles: TSC cycles an instruction there takes. Returns 0, or -EIO: not at all.
int hvm_measure_kind(struct hvm_vcpu *vcpu, uint64_t probe, bool *interpreted,
                     uint64_t *cpl0_cycles);

// Make the next or current hvm_vcpu_run() return HVM_EXIT_INTERRUPT at once. Async-signal-safe;
// stays in force until hvm_unkick().
void hvm_kick(struct hvm_vcpu *vcpu);
void hvm_unkick(struct hvm_vcpu *vcpu);

// Finish the instruction whose exit is being handled, so that the virtual CPU can be put to
// another use.
void hvm_vcpu_finish_exit(struct hvm_vcpu *vcpu);

// The state, which is KVM's while hvm_vcpu_run() runs and the caller's otherwise. Reading and
// replacing it costs nothing but memory.

// Read the state; cr2, if not NULL, receives the last page fault's address.
void hvm_vcpu_get_state(const struct hvm_vcpu *vcpu, struct hvm_state *ret, uint64_t *cr2);

void hvm_vcpu_get_control(const struct hvm_vcpu *vcpu, struct hvm_control *ret);

// Replace the state and go to the given ring. An exception on its way is dropped. What is left to
// do of the exit that is being handled (a store, an OUT) does not touch the new state.
void hvm_vcpu_set_state(struct hvm_vcpu *vcpu, unsigned ring, const struct hvm_state *state);

// Replace only FS and GS base, for arch_prctl.
void hvm_vcpu_set_bases(struct hvm_vcpu *vcpu, uint64_t fs, uint64_t gs);

// Change where SYSCALL goes: the LSTAR entry, guest virtual.
int hvm_vcpu_set_entry(struct hvm_vcpu *vcpu, uint64_t entry);

// Change what RDPID gives; without effect where the virtual CPU has none.
void hvm_vcpu_set_cpu_node(struct hvm_vcpu *vcpu, uint32_t cpu_node);

// Frequency of the virtual CPU's time-stamp counter, Hz; a guess of 2 GHz if KVM does not tell.
uint64_t hvm_tsc_hz(struct hvm_vcpu *vcpu);

// Extended state: buffers of HVM_XSAVE_BYTES.
int hvm_vcpu_get_xsave(struct hvm_vcpu *vcpu, void *buffer);
int hvm_vcpu_set_xsave(struct hvm_vcpu *vcpu, const void *buffer);

// Ask what the processor and KVM say (cpuid.c), and learn the limits of it: the physical address
// width, extended state, FSGSBASE. Returns an error of KVM_GET_SUPPORTED_CPUID as -errno.
int hvm_cpuid_limits(int kvm_fd, struct hvm_limits *ret);
// Fill CPUID entries for the virtual CPU `id` from what hvm_cpuid_limits() was told: what the
// processor says, as far as the substrate supports it, so that libraries choose the same routines
// as natively. Returns their number.
unsigned hvm_cpuid_fill(const struct hvm_limits *limits, unsigned id, struct kvm_cpuid2 *ret,
                        unsigned capacity);

#endif
