// The superposition of the process's address space: which windows of it the HRT sees.
//
// A window is a range of virtual addresses with one memory slot and its leaves in the HRT's page
// tables. Windows need no mapping behind them: Linux says at every access what is mapped, so
// mapping calls of the program change neither slots nor tables, and windows are never removed.
// They are made on first touch, growing with what has been merged, so that their number stays
// small (docs/architecture.md, "Memory").

#include <asm/errno.h>

#include "aerokernel/cpu.h"
#include "aerokernel/image.h"
#include "base/region.h"
#include "base/string.h"
#include "ros/debug.h"
#include "ros/trace.h"

#define AK_MEMORY_BYTES MIB(64)
#define AK_MEMORY_GPA MIB(16)
#define DOORBELL_GPA 0xd0000000ULL
#define WINDOWS_GPA GIB(4)
#define WINDOW_MIN MIB(64)
#define WINDOW_MAX GIB(1)
enum { WINDOWS_MAX = 4096, SLOT_AEROKERNEL = 0, SLOT_FIRST_WINDOW = 1 };

struct window {
    uint64_t va, size, gpa;
    unsigned slot;
};

static struct {
    struct mv_lock lock;
    struct ak_memory memory;
    struct ak_paging paging;
    char *entry_page, *idt_page;
    struct mv_control *control;
    uint64_t kernel_end; // guest virtual: where the AeroKernel's code ends
    struct {
        const char *image; // as it was loaded
        uint64_t text, data;
        char **page; // of the data
        uint64_t *wrappers;
    } modules;
    uint64_t forbidden; // how often execution has been forbidden
    bool guards;        // some leaves are guarded or claimed, or have been
    bool leftovers;     // memory may have been unmapped without being forgotten
    bool attached;      // the program uses the AeroKernel's interface
    bool claims;        // it, or a module, may claim pages
    unsigned count;
    uint64_t bytes;    // sum of the windows' sizes
    uint64_t gpa_next; // guest physical space is handed out upwards from here
    struct window windows[WINDOWS_MAX];
} space;

static int map_aerokernel_memory(void)
{
    return hvm_map(&ros.hvm, SLOT_AEROKERNEL, AK_MEMORY_GPA, (uint64_t)space.memory.host,
                   AK_MEMORY_BYTES);
}

static int map_shared_page(uint64_t va, const void *content, unsigned access, char **ret)
{
    char *page = ak_page_alloc(&space.memory);
    if (!page)
        return -ENOMEM;
    if (content)
        memcpy(page, content, PAGE_SIZE);
    *ret = page;
    return ak_map_page(&space.paging, va, ak_page_gpa(&space.memory, page), access);
}

// Put the AeroKernel's image into guest memory: code, then data.
static int load_kernel(void)
{
    const struct ak_image *image = (const struct ak_image *)ak_kernel_begin;
    uint64_t size = (uint64_t)(ak_kernel_end - ak_kernel_begin);
    int err = 0;
    for (uint64_t at = AK_KERNEL; at < image->bss_end && !err; at += PAGE_SIZE) {
        bool code = at < image->text_end;
        uint64_t offset = at - AK_KERNEL;
        char *page;
        err = map_shared_page(at, NULL, AK_USER | (code ? AK_EXECUTE : AK_WRITE), &page);
        if (!err && offset < size)
            memcpy(page, ak_kernel_begin + offset, MIN(size - offset, PAGE_SIZE));
    }
    space.kernel_end = image->text_end;
    return err;
}

int ros_space_load_modules(const char *image, uint64_t text, uint64_t data)
{
    char *page;
    space.modules.page = mv_region_alloc(ALIGN_UP(data / PAGE_SIZE * sizeof(char *), PAGE_SIZE));
    int err =
        space.modules.page ? map_shared_page(AK_OVERRIDES_PAGE, NULL, AK_USER, &page) : -ENOMEM;
    if (err)
        return err;
    space.modules.wrappers = (uint64_t *)page;
    for (uint64_t at = 0; at < text + data && !err; at += PAGE_SIZE) {
        unsigned access = AK_USER | (at < text ? AK_EXECUTE : AK_WRITE);
        err = map_shared_page(AK_MODULES + at, image + at, access, &page);
        if (at >= text)
            space.modules.page[(at - text) / PAGE_SIZE] = page;
    }
    space.modules.image = image;
    space.modules.text = text;
    space.modules.data = err ? 0 : data;
    return err;
}

uint64_t *ros_space_wrappers(void)
{
    return space.modules.wrappers;
}

uint64_t *ros_space_module_word(uint64_t address)
{
    uint64_t offset = address - AK_MODULES - space.modules.text;
    if (offset >= space.modules.data || offset % sizeof(uint64_t))
        return NULL;
    return (uint64_t *)(space.modules.page[offset / PAGE_SIZE] + offset % PAGE_SIZE);
}

bool ros_space_is_kernel(uint64_t rip)
{
    return (rip >= AK_KERNEL && rip < space.kernel_end) || rip - AK_MODULES < space.modules.text;
}

uint64_t ros_space_read_code(uint64_t rip, uint8_t *ret, uint64_t size)
{
    bool module = rip - AK_MODULES < space.modules.text;
    const char *code =
        module ? space.modules.image + (rip - AK_MODULES) : ak_kernel_begin + (rip - AK_KERNEL);
    uint64_t end = module ? AK_MODULES + space.modules.text : space.kernel_end;
    size = rip < end ? MIN(size, end - rip) : 0;
    memcpy(ret, code, size);
    return size;
}

// Show the HRT the memory that its page tables are made of.
static int map_memory_view(void)
{
    int err = ak_map_window(&space.paging, AK_MEMORY_VIEW, AK_MEMORY_GPA, AK_MEMORY_BYTES);
    struct mv_machine *machine = &space.control->machine;
    machine->tables.root = ros_space_root();
    machine->tables.memory = AK_MEMORY_GPA;
    machine->tables.memory_size = AK_MEMORY_BYTES;
    machine->tables.view = AK_MEMORY_VIEW;
    return err;
}

void ros_space_set_ring(void)
{
    ak_idt_init(space.idt_page, ak_entries_for(ros.ring, ros.interpreted).page_fault);
    if (ros.ring)
        ak_forbid_writes(&space.paging, AK_MEMORY_VIEW, AK_MEMORY_BYTES);
}

int ros_space_init(void)
{
    uint64_t host = mv_region_reserve(AK_MEMORY_BYTES, LEAF_SIZE);
    if (!host || mv_region_commit(host, AK_MEMORY_BYTES))
        return -ENOMEM;
    space.memory =
        (struct ak_memory){.host = (char *)host, .gpa = AK_MEMORY_GPA, .size = AK_MEMORY_BYTES};
    space.gpa_next = WINDOWS_GPA;
    int err = ak_paging_init(&space.paging, &space.memory);
    char *page;
    if (!err)
        err = map_shared_page(AK_ENTRY_PAGE, ak_entry_page, AK_EXECUTE, &space.entry_page);
    if (!err)
        err = map_shared_page(AK_VECTOR_PAGE, ak_vector_page, AK_EXECUTE, &page);
    if (!err)
        err = map_shared_page(AK_IDT_PAGE, NULL, AK_WRITE, &space.idt_page);
    if (!err)
        err = map_shared_page(AK_CONTROL_PAGE, NULL, AK_USER, &page);
    if (err)
        return err;
    space.control = (struct mv_control *)page;
    err = load_kernel();
    if (!err)
        err = map_memory_view();
    return err ? err : map_aerokernel_memory();
}

int ros_space_revive(void)
{
    int err = map_aerokernel_memory();
    for (unsigned i = 0; i < space.count && !err; i++) {
        const struct window *w = &space.windows[i];
        err = hvm_map(&ros.hvm, w->slot, w->gpa, w->va, w->size);
    }
    return err;
}

uint64_t ros_space_root(void)
{
    return ak_page_gpa(&space.memory, space.paging.root);
}

// Read guest physical memory. Returns false where there is none.
static bool read_physical(uint64_t gpa, uint64_t *ret)
{
    if (gpa - AK_MEMORY_GPA < AK_MEMORY_BYTES) {
        *ret = READ_ONCE(*(uint64_t *)(space.memory.host + (gpa - AK_MEMORY_GPA)));
        return true;
    }
    uint64_t va = 0;
    mv_lock(&space.lock);
    for (unsigned i = 0; i < space.count && !va; i++)
        if (gpa - space.windows[i].gpa < space.windows[i].size)
            va = space.windows[i].va + (gpa - space.windows[i].gpa);
    mv_unlock(&space.lock);
    return va && ros_copy_in(ret, va, sizeof(*ret)) == 0;
}

bool ros_space_has_tables(uint64_t root, uint64_t address)
{
    enum { LEVELS = 4, INDEX_BITS = 9, INDEX_MASK = 0x1ff };
    uint64_t table = root & AK_PTE_ADDRESS, entry;
    for (int level = LEVELS - 1; level >= 0; level--) {
        uint64_t index = address >> (12 + INDEX_BITS * level) & INDEX_MASK;
        if (!read_physical(table + index * sizeof(entry), &entry))
            return false;
        if (!(entry & AK_PTE_PRESENT) || entry & AK_PTE_LARGE)
            return true;
        table = entry & AK_PTE_ADDRESS;
    }
    return true;
}

struct mv_control *ros_space_control(void)
{
    return space.control;
}

uint64_t ros_space_doorbell(void)
{
    return DOORBELL_GPA;
}

void ros_space_lock(void)
{
    mv_lock(&space.lock);
}

void ros_space_unlock(void)
{
    mv_unlock(&space.lock);
}

int ros_space_make_window(unsigned id, struct ros_group *group)
{
    char *frame = NULL, *stack;
    group->window = AK_WINDOW((uint64_t)id);
    mv_lock(&space.lock);
    int err = map_shared_page(group->window + AK_FRAME_OFFSET, NULL, AK_USER | AK_WRITE, &frame);
    if (!err)
        err =
            map_shared_page(group->window + AK_TABLES_OFFSET, NULL, AK_WRITE, &group->tables_page);
    if (!err)
        err = map_shared_page(group->window + AK_IST_OFFSET, NULL, AK_USER | AK_WRITE,
                              &group->ist_page);
    if (!err)
        err = map_shared_page(group->window + AK_CPU_OFFSET, NULL, AK_USER | AK_WRITE,
                              &group->cpu_page);
    for (uint64_t at = AK_STACK_OFFSET; at < AK_WINDOW_STRIDE && !err; at += PAGE_SIZE)
        err = map_shared_page(group->window + at, NULL, AK_USER | AK_WRITE, &stack);
    if (!err)
        err = ak_map_page(&space.paging, group->window,
                          ak_page_gpa(&space.memory, space.entry_page), AK_USER | AK_EXECUTE);
    if (!err)
        err = ak_map_page(&space.paging, group->window + AK_DOORBELL_OFFSET, DOORBELL_GPA,
                          AK_USER | AK_WRITE);
    mv_unlock(&space.lock);
    group->frame = (struct mv_frame *)frame;
    group->trap = (struct mv_trap *)(frame + AK_TRAP_OFFSET - AK_FRAME_OFFSET);
    group->slot = (struct mv_slot *)(frame + AK_SLOT_OFFSET - AK_FRAME_OFFSET);
    group->stamp = (struct mv_stamp *)(frame + AK_STAMP_OFFSET - AK_FRAME_OFFSET);
    group->signals = (struct mv_signals *)(frame + AK_SIGNALS_OFFSET - AK_FRAME_OFFSET);
    group->identity = (struct ak_identity *)(frame + AK_IDENTITY_OFFSET - AK_FRAME_OFFSET);
    return err;
}

// Index of the first window that ends above the address.
static unsigned window_above(uint64_t address)
{
    unsigned low = 0, high = space.count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (space.windows[middle].va + space.windows[middle].size <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// The window sizes grow with what is merged already and shrink when guest physical space or
// slots run short, so that neither a small program pays for much nor a large one for many.
static uint64_t choose_size(void)
{
    uint64_t limit = 1ULL << ros.hvm.limits.phys_bits;
    uint64_t left = limit > space.gpa_next ? limit - space.gpa_next : 0;
    uint64_t size = WINDOW_MIN;
    while (size < WINDOW_MAX && size < space.bytes / 2)
        size *= 2;
    while (size > LEAF_SIZE && size > left / 16)
        size /= 2;
    return size;
}

// Add [start, end) as windows[index]; the array is sorted by address.
static int add_window(unsigned index, uint64_t start, uint64_t end)
{
    unsigned max = MIN((unsigned)WINDOWS_MAX, ros.hvm.limits.slots - SLOT_FIRST_WINDOW);
    uint64_t limit = 1ULL << ros.hvm.limits.phys_bits;
    uint64_t size = end - start;
    if (space.count >= max || space.gpa_next + size > limit)
        return -ENOSPC;
    unsigned slot = SLOT_FIRST_WINDOW + space.count;
    int err = hvm_map(&ros.hvm, slot, space.gpa_next, start, size);
    if (!err)
        err = ak_map_window(&space.paging, start, space.gpa_next, size);
    if (err)
        return err;
    memmove(&space.windows[index + 1], &space.windows[index],
            (space.count - index) * sizeof(struct window));
    space.windows[index] =
        (struct window){.va = start, .size = size, .gpa = space.gpa_next, .slot = slot};
    space.count++;
    space.bytes += size;
    space.gpa_next += ALIGN_UP(size, LEAF_SIZE);
    ros_stats_slots(space.count, space.bytes);
    return 0;
}

static int merge(uint64_t address)
{
    if (address >= TASK_END || mv_region_touches(address, 1))
        return -EFAULT;
    unsigned i = window_above(address);
    if (i < space.count && space.windows[i].va <= address)
        return 0;
    uint64_t begin = rdtsc();
    uint64_t low = i ? space.windows[i - 1].va + space.windows[i - 1].size : 0;
    uint64_t high = i < space.count ? space.windows[i].va : TASK_END;
    if (address < mv_region.start)
        high = MIN(high, mv_region.start);
    else
        low = MAX(low, mv_region.end);
    uint64_t size = choose_size();
    uint64_t start, end;
    int err;
    for (;;) {
        start = MAX(low, ALIGN_DOWN(address, size));
        end = MIN(high, ALIGN_DOWN(address, size) + size);
        err = add_window(i, start, end);
        if (err != -ENOMEM || size == LEAF_SIZE)
            break;
        size /= 2; // the slot's bookkeeping did not fit; a smaller one may
    }
    if (!err)
        ros_trace_merge(start, end - start, begin);
    return err;
}

int ros_space_merge(uint64_t address)
{
    mv_lock(&space.lock);
    int err = merge(address);
    mv_unlock(&space.lock);
    return err;
}

int ros_space_allow_execute(uint64_t start, uint64_t size)
{
    for (uint64_t at = start; at < start + size;) {
        int err = merge(at);
        if (err)
            return err;
        const struct window *w = &space.windows[window_above(at)];
        at = w->va + w->size;
    }
    return ak_allow_execute(&space.paging, start, size);
}

void ros_space_forbid_execute(uint64_t start, uint64_t size)
{
    space.forbidden++;
    ak_forbid_execute(&space.paging, start, size);
}

uint64_t ros_space_forbidden(void)
{
    mv_lock(&space.lock);
    uint64_t forbidden = space.forbidden;
    mv_unlock(&space.lock);
    return forbidden;
}

void ros_space_has_executed(uint64_t start, uint64_t size, uint64_t before)
{
    mv_lock(&space.lock);
    if (space.forbidden == before)
        ros_space_allow_execute(start, size);
    mv_unlock(&space.lock);
}

void ros_space_guard(uint64_t start, uint64_t size, bool reads)
{
    space.guards = true;
    ak_guard(&space.paging, start, size, reads); // what cannot be guarded Linux alone forbids
}

int ros_space_unguard(uint64_t start, uint64_t size)
{
    return space.guards ? ak_unguard(&space.paging, start, size) : 0;
}

void ros_space_unclaim(uint64_t start, uint64_t size)
{
    if (space.claims)
        ak_unclaim(&space.paging, start, size);
}

void ros_space_expect_leftovers(void)
{
    WRITE_ONCE(space.leftovers, true);
}

bool ros_space_has_leftovers(void)
{
    return READ_ONCE(space.leftovers);
}

void ros_space_attach(void)
{
    space.attached = space.claims = true;
}

bool ros_space_is_attached(void)
{
    return space.attached;
}

static int merge_all(uint64_t start, uint64_t size)
{
    int err = 0;
    for (uint64_t at = start; at < start + size && !err; at = ALIGN_DOWN(at, LEAF_SIZE) + LEAF_SIZE)
        err = merge(at);
    return err;
}

int ros_space_split(uint64_t start, uint64_t size)
{
    mv_lock(&space.lock);
    int err = merge_all(start, size);
    if (!err)
        err = ak_split(&space.paging, start, size);
    space.claims = true;
    mv_unlock(&space.lock);
    return err;
}

bool ros_space_is_guarded(uint64_t address, bool write)
{
    mv_lock(&space.lock);
    bool guarded = ak_is_guarded(&space.paging, address, write);
    mv_unlock(&space.lock);
    return guarded;
}

bool ros_space_is_claimed(uint64_t address, bool write)
{
    return ak_is_claimed(&space.paging, address, write);
}

int ros_space_merge_range(uint64_t start, uint64_t size, bool executable)
{
    int err = 0;
    mv_lock(&space.lock);
    if (executable)
        err = ros_space_allow_execute(start, size);
    if (!err)
        err = merge_all(start, size);
    mv_unlock(&space.lock);
    return err;
}

bool ros_space_covers(uint64_t address)
{
    mv_lock(&space.lock);
    unsigned i = window_above(address);
    bool covered = i < space.count && space.windows[i].va <= address;
    mv_unlock(&space.lock);
    return covered;
}

bool ros_space_translates(uint64_t address)
{
    uint64_t leaf;
    return ak_leaf(&space.paging, address, &leaf) && leaf & AK_PTE_PRESENT;
}

bool ros_space_executable(uint64_t address)
{
    return ak_is_executable(&space.paging, address);
}

void ros_space_describe(struct mv_debug *ret)
{
    ret->tables_root = ros_space_root();
    ret->memory_gpa = space.memory.gpa;
    ret->memory_host = (uint64_t)space.memory.host;
    ret->memory_bytes = space.memory.size;
    ret->kernel_start = AK_KERNEL;
    ret->kernel_end = space.kernel_end;
}

unsigned ros_space_windows(void)
{
    return READ_ONCE(space.count);
}

int ros_space_fill(struct ak_paging *paging)
{
    int err = 0;
    mv_lock(&space.lock);
    for (unsigned i = 0; i < space.count && !err; i++) {
        const struct window *w = &space.windows[i];
        err = ak_map_window(paging, w->va, w->gpa, w->size);
    }
    mv_unlock(&space.lock);
    return err;
}
