// Making the machine: memory, program, tables, virtual CPUs.

#include <linux/mman.h>

#include "aerokernel/cpu.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "loader/elf.h"
#include "monitor/monitor.h"

// As on a PC: below 4 GiB lie devices, here the doorbell (monitor.h).
#define HOLE_GPA GIB(3)
#define HOLE_END GIB(4)
enum { COMMAND_LINE_BYTES = 16384, XSAVE_LEGACY_BYTES = 512 };

struct mon_machine mon;

_Noreturn static void fail(const char *what, int err)
{
    mv_die(MV_EXIT_FAILURE, "kernel: %s: %s; see multiverse doctor, or use --qemu", what,
           mv_strerror(err));
}

char *mon_memory(uint64_t gpa, uint64_t size)
{
    for (unsigned i = 0; i < mon.ranges; i++) {
        const struct mv_boot_range *r = &mon.memory[i];
        if (gpa >= r->start && size <= r->size && gpa - r->start <= r->size - size)
            return mon.host[i] + (gpa - r->start);
    }
    return NULL;
}

static char *host_of(uint64_t physical)
{
    return mon_memory(physical, 1);
}

static void make_memory(void)
{
    uint64_t bytes = MIB(mon.config.memory_mib), low = MIN(bytes, HOLE_GPA);
    if (HOLE_END + bytes - low > 1ULL << mon.hvm.limits.phys_bits)
        mv_die(MV_EXIT_FAILURE,
               "kernel: --memory: more than the %u bits of physical addresses "
               "hold; give less",
               mon.hvm.limits.phys_bits);
    uint64_t at = sys_mmap(0, bytes + LEAF_SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys_failed(at))
        mv_die(MV_EXIT_FAILURE, "kernel: --memory: %s; give less", mv_strerror((long)at));
    at = ALIGN_UP(at, LEAF_SIZE);
    sys3(__NR_madvise, at, bytes, MADV_HUGEPAGE);
    mon.memory[0] = (struct mv_boot_range){0, low};
    mon.memory[1] = (struct mv_boot_range){HOLE_END, bytes - low};
    mon.host[0] = (char *)at;
    mon.host[1] = (char *)at + low;
    mon.ranges = bytes > low ? 2 : 1;
    for (unsigned i = 0; i < mon.ranges; i++) {
        int err =
            hvm_map(&mon.hvm, i, mon.memory[i].start, (uint64_t)mon.host[i], mon.memory[i].size);
        if (err)
            fail("memory of the virtual machine", err);
    }
}

// The program's words, one after the other; bytes that would end one are written as %XX.
static const char *command_line(char **argv)
{
    static char line[COMMAND_LINE_BYTES];
    size_t len = 0;
    for (char **word = argv; *word; word++) {
        if (word > argv)
            line[len++] = ' ';
        for (const char *c = *word; *c || c == *word; c++) {
            bool plain = *c > ' ' && *c < 127 && *c != '%';
            if (len + 5 > sizeof(line))
                mv_die(MV_EXIT_FAILURE, "kernel: arguments: more than %u bytes; give less",
                       COMMAND_LINE_BYTES);
            // An empty word is %00, which ends it.
            len += mv_format(line + len, sizeof(line) - len, plain ? "%c" : "%%%x%x",
                             plain ? *c : (*c >> 4 & 15), *c & 15);
            if (!*c)
                break;
        }
    }
    return line;
}

static void make_layout(const char *path, char **argv)
{
    static struct nl_segment segment[LDR_SEGMENTS_MAX];
    struct nl_plan plan = {.program = &mon.program,
                           .segment = segment,
                           .ranges = mon.ranges,
                           .cpus = mon.config.cpus,
                           .doorbell = MON_DOORBELL_GPA,
                           .command_line = command_line(argv),
                           .host = host_of};
    memcpy(plan.memory, mon.memory, sizeof(mon.memory));
    plan.start = mon_load(path, segment, &plan.segments);
    int err = nl_make(&plan, &mon.layout);
    if (err == -ENOMEM)
        mv_die(MV_EXIT_FAILURE, "kernel: %s: no memory left for page tables; give it more --memory",
               path);
    if (err)
        fail("memory of the program", err);
}

static void make_cpu(unsigned id)
{
    struct mon_cpu *cpu = &mon.cpu[id];
    uint64_t run = mv_region_reserve(HVM_RUN_BYTES, PAGE_SIZE);
    cpu->window = AK_WINDOW((uint64_t)id);
    cpu->call = (const struct mv_call *)mon.layout.frame[id];
    cpu->vcpu = (struct hvm_vcpu){.fd = -1, .id = id, .run = (struct kvm_run *)run};
    struct hvm_boot boot = {.ring = 3,
                            .cr3 = mon.layout.boot->machine.tables.root,
                            .window = cpu->window,
                            .idt = AK_IDT_PAGE,
                            .entry = mon.program.syscall,
                            .cpu_node = id};
    int err = run ? hvm_vcpu_create(&mon.hvm, &cpu->vcpu, &boot) : -ENOMEM;
    if (err)
        fail("virtual CPU", err);
}

// A page for the code that tells what an instruction at CPL 0 costs.
static void measure_ring(void)
{
    uint64_t cycles;
    bool interpreted;
    char *page = ak_page_alloc(&mon.layout.memory);
    int err = page ? 0 : -ENOMEM;
    if (!err) {
        memcpy(page, ak_entry_page, PAGE_SIZE);
        err = ak_map_page(&mon.layout.paging, AK_ENTRY_PAGE, ak_page_gpa(&mon.layout.memory, page),
                          AK_EXECUTE);
    }
    if (!err)
        err =
            hvm_measure_kind(&mon.cpu[0].vcpu, AK_ENTRY_PAGE + (uint64_t)(ak_probe - ak_entry_page),
                             &interpreted, &cycles);
    if (err)
        fail("virtual CPU at CPL 0", err);
    mon.ring = interpreted ? 3 : 0;
    if (mon.config.ring >= 0 && (unsigned)mon.config.ring != mon.ring)
        fail(mon.config.ring ? "ring 3 on a hardware KVM" : "ring 0 on a software KVM",
             -EOPNOTSUPP);
}

static void start_cpu(unsigned id)
{
    struct hvm_state state = {.regs = {.rip = id ? mon.program.entry_cpu : mon.program.entry,
                                       .rsp = mon.layout.stack[id],
                                       .rdi = mon.layout.boot_at,
                                       .rsi = id,
                                       .rflags = AK_FLAGS_FIXED},
                              .gs_base = mon.cpu[id].window};
    hvm_vcpu_set_state(&mon.cpu[id].vcpu, mon.ring, &state);
}

void mon_make(const char *path, char **argv)
{
    int err = hvm_open(&mon.hvm, mon.config.phys_bits);
    if (err)
        fail("/dev/kvm", err);
    if (!mon.hvm.limits.fsgsbase)
        fail("a processor without FSGSBASE", -EOPNOTSUPP);
    if (mon.config.cpus > mon.hvm.limits.max_vcpus)
        fail("--cpus: more than KVM allows", -EINVAL);
    err = hvm_create(&mon.hvm);
    if (err)
        fail("virtual machine", err);
    make_memory();
    make_layout(path, argv);
    for (unsigned id = 0; id < mon.config.cpus; id++)
        make_cpu(id);
    measure_ring();
    nl_fill_idt(&mon.layout, &mon.program, mon.ring);
    struct mv_boot *boot = mon.layout.boot;
    boot->ring = mon.ring;
    boot->xcr0 = mon.hvm.limits.xcr0;
    boot->xsave_size = boot->xcr0 ? mon.hvm.limits.xsave_size : XSAVE_LEGACY_BYTES;
    boot->machine.tsc_hz = hvm_tsc_hz(&mon.cpu[0].vcpu);
    boot->machine.ns_per_tick = (1000000000ULL << 32) / boot->machine.tsc_hz;
    boot->tables_used = mon.layout.memory.used;
    for (unsigned id = 0; id < mon.config.cpus; id++)
        start_cpu(id);
}
