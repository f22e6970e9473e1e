// The tables of a virtual CPU under the AeroKernel: GDT, TSS, IST stacks, IDT.
#ifndef MV_AEROKERNEL_CPU_H
#define MV_AEROKERNEL_CPU_H

#include "abi/frame.h"
#include "base/types.h"

// Selectors, besides those in frame.h.
enum {
    AK_KERNEL_CS = 0x08,
    AK_KERNEL_SS = 0x10,
    AK_TSS = 0x18,
    AK_CPU_NODE = 0x7b, // its limit is cpu | node << 12: what the vdso's getcpu reads by LSL
};
enum { AK_GDT_ENTRIES = 16, AK_IDT_VECTORS = 256 };

// The image, as linked into the core: entry page, vector page.
extern const char ak_entry_page[], ak_vector_page[], ak_image_end[];
extern const char ak_call_saved[], ak_syscall_entry[], ak_request[], ak_consumed[],
    ak_asynchronous[], ak_doorbell[], ak_answered[], ak_port[], ak_entry_end[], ak_probe[],
    ak_stamp[], ak_stamp_saved[], ak_stamp_end[], ak_local[], ak_local_saved[], ak_done[],
    ak_trap_forward[], ak_forward[], ak_trap_entry[], ak_trap_saved[], ak_trap_end[],
    ak_syscall_return[], ak_page_fault_ring0[], ak_page_fault_ring3[], ak_page_fault_interpreted[];

// The image of what is C (image.h), as bytes.
extern const char ak_kernel_begin[], ak_kernel_end[];

// Where SYSCALL and page faults arrive: depends on where they have to get the virtual CPU from, and
// to. Labels of the entry page and of the vector page.
struct ak_entries {
    const char *syscall, *page_fault;
};
// ring: of the program. interpreted: whether the substrate interprets code at CPL 0; there SYSCALL
// does not switch to it.
struct ak_entries ak_entries_for(unsigned ring, bool interpreted);

// Point the gate of one vector at code at `to`, on the interrupt stack that the vector needs.
void ak_idt_set(void *idt_page, unsigned vector, uint64_t to);

// Fill a page with the IDT that all virtual CPUs share (idt.c). page_fault: of struct ak_entries.
void ak_idt_init(void *idt_page, const char *page_fault);

// Fill a window's GDT and TSS. tables: the page behind AK_TABLES_OFFSET; window: its guest
// virtual address; cpu_node: what getcpu shall report, cpu | node << 12.
void ak_tables_init(void *tables, uint64_t window, uint32_t cpu_node);
// Add what leads from LSTAR back to CPL 3 (idt.c).
void ak_return_init(void *tables, uint64_t window);
// Change what getcpu shall report.
void ak_tables_set_cpu(void *tables, uint32_t cpu_node);

// Guest virtual addresses of the parts that ak_tables_init() laid out.
uint64_t ak_gdt_address(uint64_t window);
uint64_t ak_tss_address(uint64_t window);

// The exception frame that the processor pushes in long mode.
struct ak_exception {
    unsigned vector;
    bool software;  // INT3 or INT n, which at CPL 0 no gate refuses: RIP is behind the instruction
    uint64_t error; // 0 for vectors without an error code
    uint64_t rip, cs, rflags, rsp, ss;
};

// Read an exception from the page of IST stacks. rip, rsp: of the virtual CPU at the vector's exit,
// guest virtual addresses. Returns false if it is at none, or if rsp does not lie within the
// stacks.
bool ak_exception_read(const void *ist_page, uint64_t window, uint64_t rip, uint64_t rsp,
                       struct ak_exception *ret);

#endif
