// The latency command: what the parts of an HRT's making and its exits cost by themselves, without
// any program, in TSC cycles.

#include <asm/unistd.h>
#include <linux/mman.h>

#include "base/print.h"
#include "base/string.h"
#include "base/sys.h"
#include "main/main.h"
#include "ros/ros.h"

extern const char mv_bell_port[], mv_bell_store[], mv_bell_end[];

enum { VMS = 4, VCPUS = 4, SLOTS = 8, MERGES = 8, EXITS = 128, EXITS_BEFORE = 64 };

// The mappings that are merged: 64 KiB to 1 MiB each, spread over 4 GiB, not aligned to leaves.
enum { MAPPINGS = 100 };
#define MAPPING_STRIDE (MIB(41) - PAGE_SIZE)
#define MAPPINGS_BYTES (MAPPINGS * MAPPING_STRIDE)
#define SLOT_BYTES MIB(64) // the window that a small program begins with
#define SCRATCH_BYTES MIB(1)

static void must(const char *what, long err)
{
    if (err < 0)
        mv_die(MV_EXIT_FAILURE, "latency: %s: %s; see multiverse doctor", what, mv_strerror(err));
}

// Print KEY=SAMPLE,SAMPLE,...; a key with many samples takes several lines.
static void print_samples(const char *key, const uint64_t *samples, unsigned count)
{
    enum { A_LINE = 32, DIGITS = 20 };
    for (unsigned i = 0; i < count;) {
        char line[A_LINE * (DIGITS + 1) + 1];
        size_t len = 0;
        for (unsigned end = MIN(count, i + A_LINE); i < end; i++)
            len += mv_format(line + len, sizeof(line) - len, "%s%lu", len ? "," : "",
                             (unsigned long)samples[i]);
        mv_print(1, "%s=%s", key, line);
    }
}

static uint64_t map_memory(uint64_t at, uint64_t size, int prot)
{
    uint64_t memory = sys_mmap(
        at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
    if (sys_failed(memory))
        mv_die(MV_EXIT_FAILURE, "latency: address space: %s; raise the limit (ulimit -v)",
               mv_strerror((long)memory));
    return memory;
}

// Make virtual machines that nothing runs in.
static void measure_vm(const struct mv_config *config)
{
    static struct hvm hvm;
    uint64_t samples[VMS];
    must("/dev/kvm", hvm_open(&hvm, config->phys_bits));
    for (unsigned i = 0; i < VMS; i++) {
        uint64_t begin = rdtsc();
        must("virtual machine", hvm_create(&hvm));
        samples[i] = rdtsc() - begin;
        hvm_close(&hvm);
    }
    print_samples("vm_create", samples, VMS);
}

// Further virtual CPUs, as further threads of a program get them.
static void measure_vcpu(void)
{
    uint64_t samples[VCPUS];
    unsigned count = 0;
    while (count < VCPUS) {
        struct ros_group *group;
        uint64_t begin = rdtsc();
        int err = ros_group_acquire(&group);
        samples[count] = rdtsc() - begin;
        if (err == -EAGAIN)
            break;
        must("virtual CPU", err);
        count++;
    }
    print_samples("vcpu_create", samples, count);
}

// Slots of address space in which nothing is mapped, at the upper end of guest physical space.
static void measure_slot(void)
{
    uint64_t samples[SLOTS];
    uint64_t host = map_memory(0, SLOTS * SLOT_BYTES, PROT_NONE);
    for (unsigned i = 0; i < SLOTS; i++) {
        uint64_t gpa = (1ULL << ros.hvm.limits.phys_bits) - (i + 1) * SLOT_BYTES;
        uint64_t begin = rdtsc();
        int err =
            hvm_map(&ros.hvm, ros.hvm.limits.slots - 1 - i, gpa, host + i * SLOT_BYTES, SLOT_BYTES);
        samples[i] = rdtsc() - begin;
        must("memory slot", err);
    }
    print_samples("slot_add", samples, SLOTS);
}

static uint64_t mapping_start(uint64_t base, unsigned i)
{
    return base + i * MAPPING_STRIDE;
}

static uint64_t mapping_size(unsigned i)
{
    return KIB(64) << i % 5;
}

// Every fourth is code, as with libraries.
static bool mapping_executable(unsigned i)
{
    return i % 4 == 0;
}

static void merge_with_slots(uint64_t base)
{
    for (unsigned i = 0; i < MAPPINGS; i++)
        must("merging",
             ros_space_merge_range(mapping_start(base, i), mapping_size(i), mapping_executable(i)));
}

static void merge_into(struct ak_paging *paging, uint64_t base)
{
    must("page tables", ros_space_fill(paging));
    for (unsigned i = 0; i < MAPPINGS; i++) {
        must("merging", ros_space_merge_range(mapping_start(base, i), mapping_size(i), false));
        if (mapping_executable(i))
            must("page tables", ak_allow_execute(paging, mapping_start(base, i), mapping_size(i)));
    }
}

// First all of it, slots included, in a space in which nothing is merged yet; then the same
// mappings into fresh page tables, as if only the slots were there.
static void measure_merge(void)
{
    uint64_t samples[MERGES];
    uint64_t base = map_memory(0, MAPPINGS_BYTES, PROT_NONE);
    must("address space", sys2(__NR_munmap, base, MAPPINGS_BYTES));
    for (unsigned i = 0; i < MAPPINGS; i++)
        map_memory(mapping_start(base, i), mapping_size(i), PROT_READ | PROT_WRITE);
    uint64_t begin = rdtsc();
    merge_with_slots(base);
    samples[0] = rdtsc() - begin;
    print_samples("merge_100_slots", samples, 1);
    mv_print(1, "merge_windows=%u", ros_space_windows());

    char *tables = (char *)map_memory(0, SCRATCH_BYTES, PROT_READ | PROT_WRITE);
    for (unsigned i = 0; i < MERGES; i++) {
        struct ak_memory memory = {.host = tables, .size = SCRATCH_BYTES};
        struct ak_paging paging;
        memset(tables, 0, SCRATCH_BYTES); // also so that no sample has Linux's page faults in it
        begin = rdtsc();
        must("page tables", ak_paging_init(&paging, &memory));
        merge_into(&paging, base);
        samples[i] = rdtsc() - begin;
    }
    print_samples("merge_100", samples, MERGES);
}

// Put the loop that rings the doorbell of this ring into memory that the HRT may execute.
static uint64_t make_bell(void)
{
    uint64_t page = map_memory(0, PAGE_SIZE, PROT_READ | PROT_WRITE);
    const char *begin = ros.ring ? mv_bell_store : mv_bell_port;
    const char *end = ros.ring ? mv_bell_end : mv_bell_store;
    memcpy((void *)page, begin, (size_t)(end - begin));
    must("executable memory", sys3(__NR_mprotect, page, PAGE_SIZE, PROT_READ | PROT_EXEC));
    must("merging", ros_space_merge_range(page, PAGE_SIZE, true));
    return page;
}

// From one exit to the next, when nothing is done between them.
static void measure_exit(struct ros_group *group)
{
    uint64_t samples[EXITS];
    struct hvm_state state = {.regs = {.rip = make_bell(),
                                       .rsp = group->window + AK_FRAME_OFFSET + MV_FRAME_STACK_TOP,
                                       .rdi = group->window + AK_DOORBELL_OFFSET,
                                       .rflags = AK_FLAGS_FIXED}};
    hvm_vcpu_set_state(&group->vcpu, ros.ring, &state);
    for (unsigned i = 0; i < EXITS_BEFORE + EXITS; i++) {
        uint64_t begin = rdtsc();
        struct hvm_exit exit = hvm_vcpu_run(&group->vcpu);
        samples[i < EXITS_BEFORE ? 0 : i - EXITS_BEFORE] = rdtsc() - begin;
        bool rang = ros.ring ? exit.kind == HVM_EXIT_STORE && exit.address == ros_space_doorbell()
                             : exit.kind == HVM_EXIT_PORT && exit.address == AK_PORT_DOORBELL;
        if (!rang && exit.kind != HVM_EXIT_INTERRUPT)
            must("exit", -EIO);
    }
    print_samples("exit", samples, EXITS);
}

void mv_latency(const struct mv_config *config)
{
    struct ros_group *group;
    const char *what;
    struct mv_costs costs;
    measure_vm(config);
    int err = mv_make_hvm(config, &group, &what, &costs);
    if (err)
        mv_die(MV_EXIT_FAILURE, "latency: %s: %s; %s", what, mv_strerror(err),
               mv_hvm_advice(config));
    measure_merge();
    measure_slot();
    measure_vcpu();
    measure_exit(group);
    sys_exit_group(0);
}
