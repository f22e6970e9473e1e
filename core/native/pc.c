// A native program on a PC's hardware, emulated or not: what a monitor does otherwise, before the
// program and for it.

#include "native/pc.h"

#include "base/format.h"
#include "base/string.h"
#include "native/layout.h"
#include "native/native.h"
#include "native/port.h"

enum {
    SERIAL = 0x3f8, // 16550: the console
    SERIAL_LINE = SERIAL + 5,
    SERIAL_READY = 0x20,
    SERIAL_DONE = 0x40,
    REPORT = 0xe9, // QEMU's debug console, which reads as its own number
    QEMU_EXIT = 0xf4,
    PIC_1_MASK = 0x21,
    PIC_2_MASK = 0xa1,
    E820_MEMORY = 1,
    VECTOR_NMI = 2,
    COMMAND_LINE_BYTES = 16384,
    XSAVE_LEGACY_BYTES = 512,
};
#define START_MAGIC 0x336ec578
#define TRAMPOLINE 0x8000ULL
#define START_US 1000000 // for a processor to start
#define X87_SSE 3ULL
#define CR0_VALUE 0x80010033ULL // as hvm/kvm.c has it
#define CR4_VALUE 0x10620ULL    // FSGSBASE OSXMMEXCPT OSFXSR PAE
#define CR4_OSXSAVE (1ULL << 18)

struct memory_map_entry {
    uint64_t start, size;
    uint32_t type, reserved;
};

extern const char ak_text_end[], ak_data_start[], ak_image_end[]; // native.ld
extern const char ak_trampoline[], ak_trampoline_end[];           // pvh.S

_Noreturn void ak_pc_enter(struct mv_boot *boot, unsigned cpu, uint64_t cr3, uint64_t window,
                           uint64_t stack, uint64_t entry);
_Noreturn void ak_pc_start(const struct pc_start_info *info);
_Noreturn void ak_pc_start_cpu(void);

uint32_t ak_pc_cpu_stack; // of the processor that is being started

static struct {
    struct nl_layout layout;
    uint8_t apic[MV_NATIVE_CPUS_MAX]; // of each virtual CPU
    unsigned cpus;
    uint64_t tsc_hz, xcr0;
    uint32_t started; // virtual CPU whose processor has come
    struct ak_spin console, drop;
    uint32_t forgotten; // processors that have answered ak_pc_drop()
} pc;

// ---- The outside --------------------------------------------------------------------------------

void ak_pc_write(const char *bytes, size_t size)
{
    ak_spin_lock(&pc.console);
    for (size_t i = 0; i < size; i++) {
        while (!(in8(SERIAL_LINE) & SERIAL_READY))
            __builtin_ia32_pause();
        out8(SERIAL, (uint8_t)bytes[i]);
    }
    ak_spin_unlock(&pc.console);
}

static void report(uint16_t port, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out8(port, (uint8_t)bytes[i]);
}

void ak_pc_end(int status, const char *text, size_t size)
{
    char line[32];
    size_t len = mv_format(line, sizeof(line), "status=%d ", status);
    while (!(in8(SERIAL_LINE) & SERIAL_DONE))
        __builtin_ia32_pause();
    bool qemu = in8(REPORT) == REPORT;
    uint16_t port = qemu ? REPORT : SERIAL;
    if (qemu || size) {
        report(port, line, len);
        report(port, text, size);
        report(port, "\n", 1);
    }
    out8(QEMU_EXIT, 0);
    for (;;) // there is no such device: stand still
        __asm__ volatile("cli; hlt");
}

_Noreturn static void fail(const char *why)
{
    char text[128];
    ak_pc_end(MV_STATUS_FAULT, text, mv_format(text, sizeof(text), "what=start why=%s", why));
}

// ---- Virtual CPUs that sleep --------------------------------------------------------------------

// Interrupts are on only here, so none is lost between the question and the HLT.
void ak_pc_sleep(const uint32_t *asleep, uint64_t ns)
{
    pc_apic_timer(ns);
    if (__atomic_load_n(asleep, __ATOMIC_SEQ_CST) == 1)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    pc_apic_timer(~0ULL);
}

void ak_pc_wake(unsigned cpu)
{
    pc_apic_send(pc.apic[cpu], PC_VECTOR_WAKE);
}

static void reload_tables(void)
{
    uint64_t cr3;
    __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}

// By NMI, since interrupts are off in programs.
void ak_pc_drop(void)
{
    ak_spin_lock(&pc.drop);
    __atomic_store_n(&pc.forgotten, 0, __ATOMIC_SEQ_CST);
    pc_apic_send_nmi_to_others();
    while (__atomic_load_n(&pc.forgotten, __ATOMIC_SEQ_CST) + 1 < pc.cpus)
        __builtin_ia32_pause();
    ak_spin_unlock(&pc.drop);
}

bool ak_pc_interrupt(unsigned vector)
{
    if (ak_boot->doorbell)
        return false;
    if (vector == VECTOR_NMI && pc.cpus > 1) {
        reload_tables();
        __atomic_add_fetch(&pc.forgotten, 1, __ATOMIC_SEQ_CST);
        return true;
    }
    if (vector == PC_VECTOR_TIMER || vector == PC_VECTOR_WAKE)
        pc_apic_end_of_interrupt();
    return vector == PC_VECTOR_TIMER || vector == PC_VECTOR_WAKE || vector == PC_VECTOR_SPURIOUS;
}

// ---- Start --------------------------------------------------------------------------------------

static void init_serial(void)
{
    enum { DIVISOR_115200 = 1 };
    out8(SERIAL + 1, 0); // no interrupts
    out8(SERIAL + 3, 0x80);
    out8(SERIAL, DIVISOR_115200);
    out8(SERIAL + 1, 0);
    out8(SERIAL + 3, 3); // eight bits, no parity, one stop bit
    out8(SERIAL + 2, 1); // FIFOs
}

// Switch on what programs may use of a processor.
static void init_cpu(void)
{
    enum { XSAVE_BIT = 26, FSGSBASE_BIT = 0 };
    bool xsave = cpuid(1, 0).c >> XSAVE_BIT & 1;
    if (cpuid(0, 0).a < 7 || !(cpuid(7, 0).b >> FSGSBASE_BIT & 1))
        fail("no_FSGSBASE");
    __asm__ volatile("mov %0, %%cr0" : : "r"(CR0_VALUE));
    __asm__ volatile("mov %0, %%cr4" : : "r"(CR4_VALUE | (xsave ? CR4_OSXSAVE : 0)));
    if (!xsave)
        return;
    // x87, SSE, AVX, AVX-512: no more than fault handlers' images have room for.
    pc.xcr0 = cpuid(0xd, 0).a & 0xe7;
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)pc.xcr0), "d"(0));
}

// The machine's memory, below what else is there, in whole pages and in order.
static void read_memory_map(const struct pc_start_info *info, struct nl_plan *plan)
{
    const struct memory_map_entry *map = (const struct memory_map_entry *)info->memory_map;
    if (info->version < 1 || !map || !info->memory_map_entries)
        fail("no_memory_map");
    for (uint32_t i = 0; i < info->memory_map_entries; i++) {
        uint64_t start = ALIGN_UP(map[i].start, PAGE_SIZE);
        uint64_t end = ALIGN_DOWN(map[i].start + map[i].size, PAGE_SIZE);
        if (map[i].type != E820_MEMORY || start >= end || plan->ranges == MV_BOOT_RANGES)
            continue;
        unsigned at = plan->ranges++;
        for (; at && plan->memory[at - 1].start > start; at--)
            plan->memory[at] = plan->memory[at - 1];
        plan->memory[at] = (struct mv_boot_range){start, end - start};
    }
}

static char *identity(uint64_t physical)
{
    return (char *)physical;
}

static void make_layout(const struct pc_start_info *info)
{
    // What firmware has left anywhere is read before anything is written.
    static char command_line[COMMAND_LINE_BYTES];
    static struct nl_plan plan = {
        .program = &ak_native_head, .command_line = command_line, .host = identity};
    uint64_t text_end = (uint64_t)ak_text_end, data = (uint64_t)ak_data_start;
    uint64_t image_end = (uint64_t)ak_image_end;
    struct nl_segment segment[] = {{MV_NATIVE_BASE, text_end - MV_NATIVE_BASE, AK_EXECUTE},
                                   {data, image_end - data, AK_WRITE}};
    const char *words = (const char *)info->command_line;
    for (size_t i = 0; words && words[i] && i + 1 < sizeof(command_line); i++)
        command_line[i] = words[i];
    read_memory_map(info, &plan);
    pc.cpus = pc_find_cpus(info->rsdp, pc_apic_id(), pc.apic, MV_NATIVE_CPUS_MAX);
    plan.segment = segment;
    plan.segments = ARRAY_SIZE(segment);
    plan.start = image_end;
    plan.cpus = pc.cpus;
    if (nl_make(&plan, &pc.layout) || ak_map_page(&pc.layout.paging, PC_APIC, PC_APIC, AK_WRITE))
        fail("no_memory");
    nl_fill_idt(&pc.layout, plan.program, 0);
    struct mv_boot *boot = pc.layout.boot;
    boot->xcr0 = pc.xcr0;
    boot->xsave_size = pc.xcr0 ? cpuid(0xd, 0).b : XSAVE_LEGACY_BYTES;
    boot->machine.tsc_hz = pc.tsc_hz;
    boot->machine.ns_per_tick = (1000000000ULL << 32) / pc.tsc_hz;
    boot->tables_used = pc.layout.memory.used;
}

_Noreturn static void enter(unsigned cpu)
{
    const struct nl_layout *l = &pc.layout;
    ak_pc_enter(l->boot, cpu, l->boot->machine.tables.root, AK_WINDOW((uint64_t)cpu), l->stack[cpu],
                cpu ? ak_native_head.entry_cpu : ak_native_head.entry);
}

static void start_cpus(void)
{
    memcpy((void *)TRAMPOLINE, ak_trampoline, (size_t)(ak_trampoline_end - ak_trampoline));
    for (unsigned cpu = 1; cpu < pc.cpus; cpu++) {
        ak_pc_cpu_stack = (uint32_t)pc.layout.stack[cpu];
        pc_apic_start(pc.apic[cpu], TRAMPOLINE, pc.tsc_hz);
        for (uint64_t us = 0; __atomic_load_n(&pc.started, __ATOMIC_ACQUIRE) != cpu; us += 100) {
            if (us > START_US)
                fail("a_processor_does_not_start");
            pc_delay(pc.tsc_hz, 100);
        }
    }
}

void ak_pc_start(const struct pc_start_info *info)
{
    init_serial();
    out8(PIC_1_MASK, 0xff);
    out8(PIC_2_MASK, 0xff);
    if (info->magic != START_MAGIC)
        fail("not_started_by_PVH");
    init_cpu();
    pc.tsc_hz = pc_tsc_hz();
    pc_apic_init(pc.tsc_hz);
    make_layout(info);
    start_cpus();
    enter(0);
}

void ak_pc_start_cpu(void)
{
    unsigned cpu = __atomic_load_n(&pc.started, __ATOMIC_ACQUIRE) + 1;
    init_cpu();
    pc_apic_init(pc.tsc_hz);
    __atomic_store_n(&pc.started, cpu, __ATOMIC_RELEASE);
    enter(cpu);
}
