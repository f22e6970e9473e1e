// What only HRTs have of a virtual CPU's tables: they lead to the labels of entry.S.

#include "aerokernel/cpu.h"

enum { VECTOR_PF = 14 };

struct ak_entries ak_entries_for(unsigned ring, bool interpreted)
{
    if (!ring)
        return (struct ak_entries){ak_syscall_entry, ak_page_fault_ring0};
    if (interpreted)
        return (struct ak_entries){ak_syscall_entry, ak_page_fault_interpreted};
    return (struct ak_entries){ak_syscall_return, ak_page_fault_ring3};
}

void ak_idt_init(void *idt_page, const char *page_fault)
{
    for (unsigned v = 0; v < AK_IDT_VECTORS; v++)
        ak_idt_set(idt_page, v, AK_VECTOR_PAGE + v * AK_VECTOR_STRIDE);
    ak_idt_set(idt_page, VECTOR_PF, AK_VECTOR_PAGE + (uint64_t)(page_fault - ak_vector_page));
}

void ak_return_init(void *tables, uint64_t window)
{
    // What IRETQ takes on the way from LSTAR back to CPL 3; the entry fills RSP in.
    uint64_t *to = (uint64_t *)((char *)tables + AK_RETURN_OFFSET - AK_TABLES_OFFSET);
    to[0] = window + (uint64_t)(ak_syscall_entry - ak_entry_page);
    to[1] = AK_USER_CS;
    to[2] = AK_FLAGS_FIXED;
    to[4] = AK_USER_SS;
}
