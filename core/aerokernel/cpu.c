#include "aerokernel/cpu.h"

#include "base/string.h"

// Intel SDM volume 3, 8.7: the 64-bit TSS.
struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap;
} __attribute__((packed));

enum {
    TSS_OFFSET = 0x800,
    VECTOR_DB = 1,
    VECTOR_NMI = 2,
    VECTOR_BP = 3,
    VECTOR_OF = 4,
    VECTOR_DF = 8,
    VECTOR_MC = 18
};

// IST stacks of one page: one for each kind that may interrupt another.
enum { IST_COMMON = 1, IST_DB, IST_NMI, IST_DF_MC, IST_COUNT = IST_DF_MC };

uint64_t ak_gdt_address(uint64_t window)
{
    return window + AK_TABLES_OFFSET;
}

uint64_t ak_tss_address(uint64_t window)
{
    return window + AK_TABLES_OFFSET + TSS_OFFSET;
}

static unsigned ist_of_vector(unsigned vector)
{
    switch (vector) {
    case VECTOR_DB:
        return IST_DB;
    case VECTOR_NMI:
        return IST_NMI;
    case VECTOR_DF:
    case VECTOR_MC:
        return IST_DF_MC;
    default:
        return IST_COMMON;
    }
}

void ak_idt_set(void *idt_page, unsigned vector, uint64_t to)
{
    // A gate that a program may reach by an instruction (INT3, INTO) needs DPL 3.
    enum { GATE = 0x8e00, GATE_DPL3 = 0xee00 };
    uint64_t(*gate)[2] = idt_page;
    uint64_t type = vector == VECTOR_BP || vector == VECTOR_OF ? GATE_DPL3 : GATE;
    gate[vector][0] = (to & 0xffff) | (uint64_t)AK_KERNEL_CS << 16 |
                      (type | ist_of_vector(vector)) << 32 | (to >> 16 & 0xffff) << 48;
    gate[vector][1] = to >> 32;
}

void ak_tables_set_cpu(void *tables, uint32_t cpu_node)
{
    uint64_t limit = (cpu_node & 0xffff) | (uint64_t)(cpu_node >> 16 & 0xf) << 48;
    WRITE_ONCE(((uint64_t *)tables)[AK_CPU_NODE / 8], 0x0040f50000000000 | limit);
}

void ak_tables_init(void *tables, uint64_t window, uint32_t cpu_node)
{
    uint64_t *gdt = tables;
    uint64_t tss_at = ak_tss_address(window);
    uint64_t limit = sizeof(struct tss) - 1;
    memset(tables, 0, PAGE_SIZE);
    gdt[AK_KERNEL_CS / 8] = 0x00af9b000000ffff;
    gdt[AK_KERNEL_SS / 8] = 0x00cf93000000ffff;
    gdt[AK_TSS / 8] =
        limit | (tss_at & 0xffffff) << 16 | (uint64_t)0x89 << 40 | (tss_at >> 24 & 0xff) << 56;
    gdt[AK_TSS / 8 + 1] = tss_at >> 32;
    gdt[AK_USER_SS / 8] = 0x00cff3000000ffff;
    gdt[AK_USER_CS / 8] = 0x00affb000000ffff;
    ak_tables_set_cpu(tables, cpu_node);

    struct tss *tss = (struct tss *)((char *)tables + TSS_OFFSET);
    uint64_t stacks = window + AK_IST_OFFSET;
    for (unsigned i = 0; i < IST_COUNT; i++)
        tss->ist[i] = stacks + (i + 1) * AK_IST_BYTES;
    tss->rsp[0] = tss->ist[0];
    tss->iomap = sizeof(*tss);
}

static bool has_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 ||
           vector == 29 || vector == 30;
}

bool ak_exception_read(const void *ist_page, uint64_t window, uint64_t rip, uint64_t rsp,
                       struct ak_exception *ret)
{
    enum { WORDS = 5, EXCEPTIONS = 32 };
    uint64_t place = rip - AK_VECTOR_PAGE, offset = rsp - (window + AK_IST_OFFSET);
    if (place >= AK_IDT_VECTORS * AK_VECTOR_STRIDE || offset >= IST_COUNT * AK_IST_BYTES ||
        offset % 8)
        return false;
    unsigned vector = (unsigned)place / AK_VECTOR_STRIDE;
    // The frame is alone on its stack. INT n pushes no error code, whatever its vector.
    uint64_t words = (AK_IST_BYTES - offset % AK_IST_BYTES) / 8;
    bool error = words == WORDS + 1 && has_error_code(vector);
    if (words != WORDS && !error)
        return false;
    const uint64_t *frame = (const uint64_t *)((const char *)ist_page + offset);
    bool trap = vector == VECTOR_BP || vector == VECTOR_OF || vector >= EXCEPTIONS;
    *ret = (struct ak_exception){.vector = vector,
                                 .software = trap || (has_error_code(vector) && !error)};
    if (error)
        ret->error = *frame++;
    ret->rip = frame[0], ret->cs = frame[1], ret->rflags = frame[2];
    ret->rsp = frame[3], ret->ss = frame[4];
    return true;
}
