#include "native/layout.h"

#include <asm/errno.h>

#include "aerokernel/cpu.h"
#include "base/string.h"
#include "include/aerokernel/page.h"

enum { COMMAND_LINE_MAX = 16384 };
#define FIRST_STACK_BYTES KIB(256) // of virtual CPU 0; main() runs there
#define OTHER_STACK_BYTES KIB(64)
#define PER_CPU_BYTES (KIB(32) + OTHER_STACK_BYTES + PAGE_SIZE)
#define FIXED_BYTES MIB(1) // boot information, IDT, tables of image and upper half, first stack

// Memory for tables and windows: among other things a page for each 2 MiB leaf, which may have to
// be split, and the tables that translate all this by pages.
static uint64_t system_bytes(const struct nl_plan *plan)
{
    const struct mv_boot_range *last = &plan->memory[plan->ranges - 1];
    uint64_t end = last->start + last->size, leaves = end / LEAF_SIZE + 1;
    return ALIGN_UP(FIXED_BYTES + plan->cpus * PER_CPU_BYTES +
                        (leaves + leaves / 512 * 2) * PAGE_SIZE,
                    PAGE_SIZE);
}

// Take pages that follow each other. Returns their physical address, 0 without memory.
static uint64_t take(struct nl_layout *l, uint64_t bytes)
{
    char *first = NULL;
    for (uint64_t at = 0; at < bytes; at += PAGE_SIZE) {
        char *page = ak_page_alloc(&l->memory);
        if (!page)
            return 0;
        first = first ? first : page;
    }
    return ak_page_gpa(&l->memory, first);
}

static char *host_of(const struct nl_layout *l, uint64_t physical)
{
    return l->memory.host + (physical - l->memory.gpa);
}

// A new page at a virtual address of the upper half.
static int map_new(struct nl_layout *l, uint64_t va, unsigned access, char **ret)
{
    uint64_t page = take(l, PAGE_SIZE);
    if (!page)
        return -ENOMEM;
    *ret = host_of(l, page);
    return ak_map_page(&l->paging, va, page, access);
}

// A stack, with a page below it that map_memory() leaves without translation.
static int make_stack(struct nl_layout *l, unsigned cpu)
{
    uint64_t bytes = PAGE_SIZE + (cpu ? OTHER_STACK_BYTES : FIRST_STACK_BYTES);
    l->guard[cpu] = take(l, bytes);
    l->stack[cpu] = l->guard[cpu] + bytes;
    return l->guard[cpu] ? 0 : -ENOMEM;
}

static int make_window(struct nl_layout *l, const struct nl_plan *plan, unsigned cpu)
{
    uint64_t window = AK_WINDOW((uint64_t)cpu);
    char *unused;
    int err = map_new(l, window + AK_FRAME_OFFSET, AK_USER | AK_WRITE, &l->frame[cpu]);
    if (!err)
        err = map_new(l, window + AK_TABLES_OFFSET, AK_WRITE, &l->tables[cpu]);
    for (uint64_t at = AK_IST_OFFSET; at < AK_WINDOW_STRIDE && !err; at += PAGE_SIZE)
        err = map_new(l, window + at, AK_USER | AK_WRITE, &unused);
    if (!err && plan->doorbell)
        err = ak_map_page(&l->paging, window + AK_DOORBELL_OFFSET, plan->doorbell,
                          AK_USER | AK_WRITE);
    if (!err)
        ak_tables_init(l->tables[cpu], window, cpu);
    return err;
}

// Translate [start, end) by 4 KiB pages, but for what is translated already.
static int map_by_pages(struct nl_layout *l, uint64_t start, uint64_t end)
{
    int err = 0;
    for (uint64_t next; start < end && !err; start = next) {
        next = MIN(end, ALIGN_DOWN(start, LEAF_SIZE / 2) + LEAF_SIZE / 2);
        err = ak_map_window(&l->paging, start, start, next - start);
    }
    return err;
}

static int map_image(struct nl_layout *l, const struct nl_plan *plan)
{
    int err = 0;
    for (unsigned i = 0; i < plan->segments && !err; i++) {
        const struct nl_segment *s = &plan->segment[i];
        for (uint64_t at = ALIGN_DOWN(s->start, PAGE_SIZE); at < s->start + s->size && !err;
             at += PAGE_SIZE)
            err = ak_map_page(&l->paging, at, at, AK_USER | s->access);
    }
    return err;
}

// The program sees all memory at its physical address, but for the lowest page and the guards of
// stacks. Image, tables and stacks are translated by pages.
static int map_memory(struct nl_layout *l, const struct nl_plan *plan)
{
    uint64_t by_pages = ALIGN_UP(l->memory.gpa + l->memory.size, LEAF_SIZE);
    int err = 0;
    for (unsigned i = 0; i < plan->ranges && !err; i++) {
        uint64_t start = MAX(plan->memory[i].start, PAGE_SIZE);
        uint64_t end = plan->memory[i].start + plan->memory[i].size;
        if (start < by_pages)
            err = map_by_pages(l, start, MIN(end, by_pages));
        start = MAX(start, by_pages);
        if (start < end && !err)
            err = ak_map_window(&l->paging, start, start, end - start);
    }
    for (unsigned cpu = 0; cpu < plan->cpus && !err; cpu++) {
        bool less;
        err = ak_claim(&l->paging, l->guard[cpu], PAGE_SIZE, AK_PAGE_NONE, NULL, &less);
    }
    return err;
}

static int copy_command_line(struct nl_layout *l, const char *text)
{
    uint64_t bytes = strlen(text) + 1;
    if (bytes > COMMAND_LINE_MAX)
        return -E2BIG;
    l->boot->command_line = take(l, bytes);
    if (!l->boot->command_line)
        return -ENOMEM;
    memcpy(host_of(l, l->boot->command_line), text, bytes);
    return 0;
}

static void list_free_memory(struct nl_layout *l, const struct nl_plan *plan)
{
    uint64_t from = l->memory.gpa + l->memory.size;
    struct mv_boot *boot = l->boot;
    for (unsigned i = 0; i < plan->ranges; i++) {
        uint64_t start = MAX(plan->memory[i].start, from);
        uint64_t end = plan->memory[i].start + plan->memory[i].size;
        if (start < end)
            boot->range[boot->ranges++] = (struct mv_boot_range){start, end - start};
    }
}

int nl_make(const struct nl_plan *plan, struct nl_layout *ret)
{
    struct nl_layout *l = ret;
    uint64_t start = ALIGN_UP(plan->start, PAGE_SIZE), size = system_bytes(plan);
    bool fits = false;
    for (unsigned i = 0; i < plan->ranges; i++)
        fits = fits || (start >= plan->memory[i].start &&
                        start + size <= plan->memory[i].start + plan->memory[i].size);
    if (!fits)
        return -ENOMEM;
    memset(l, 0, sizeof(*l));
    l->memory = (struct ak_memory){.host = plan->host(start), .gpa = start, .size = size};
    memset(l->memory.host, 0, size);
    int err = ak_paging_init(&l->paging, &l->memory);
    l->boot_at = err ? 0 : take(l, sizeof(struct mv_boot));
    if (!l->boot_at)
        return -ENOMEM;
    l->boot = (struct mv_boot *)host_of(l, l->boot_at);
    err = map_image(l, plan);
    for (unsigned cpu = 0; cpu < plan->cpus && !err; cpu++) {
        err = make_stack(l, cpu);
        if (!err)
            err = make_window(l, plan, cpu);
    }
    if (!err)
        err = map_new(l, AK_IDT_PAGE, AK_WRITE, &l->idt);
    if (!err)
        err = copy_command_line(l, plan->command_line);
    if (!err)
        err = map_memory(l, plan);
    if (err)
        return err;
    struct mv_boot *boot = l->boot;
    boot->magic = MV_NATIVE_MAGIC;
    boot->version = MV_NATIVE_VERSION;
    boot->cpus = boot->machine.cpus = plan->cpus;
    boot->doorbell = plan->doorbell != 0;
    boot->machine.tables.root = ak_page_gpa(&l->memory, l->paging.root);
    boot->machine.tables.memory = boot->machine.tables.view = l->memory.gpa;
    boot->machine.tables.memory_size = l->memory.size;
    boot->tables_used = l->memory.used;
    list_free_memory(l, plan);
    return 0;
}

void nl_fill_idt(const struct nl_layout *layout, const struct mv_native *program, unsigned ring)
{
    uint64_t first = ring ? program->vectors_ring3 : program->vectors_ring0;
    for (unsigned v = 0; v < MV_NATIVE_VECTORS; v++)
        ak_idt_set(layout->idt, v, first + v * MV_NATIVE_VECTOR_STRIDE);
}
