// Page-table services and fault handlers. At ring 0 the AeroKernel edits its own tables; at ring 3
// it cannot, and the platform does.

#include "include/aerokernel/page.h"

#include <asm/errno.h>

#include "aerokernel/kernel.h"
#include "aerokernel/paging.h"
#include "base/string.h"

enum { RANGES_MAX = 64, RED_ZONE = 128 };

static struct {
    struct ak_spin lock; // of those who change something
    uint32_t version;    // counts removals
    unsigned count;      // none has been used from here on
    struct range {
        uint64_t start, size; // of size 0: free
        ak_fault_fn *fn;
        void *arg;
    } range[RANGES_MAX];
} handlers;

struct ak_paging ak_tables(struct ak_memory *view)
{
    *view = (struct ak_memory){.host = (char *)ak_machine->tables.view,
                               .gpa = ak_machine->tables.memory,
                               .size = ak_machine->tables.memory_size,
                               .used = ak_machine->tables.memory_size};
    return (struct ak_paging){
        .memory = view, .root = (uint64_t *)(view->host + (ak_machine->tables.root - view->gpa))};
}

static bool is_range(uint64_t start, size_t size)
{
    return start % PAGE_SIZE == 0 && size % PAGE_SIZE == 0 && size &&
           range_is_lower_half(start, size);
}

static void invalidate(uint64_t address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

// From this size on it is cheaper to forget all translations at once.
#define INVALIDATE_ALL (64ULL * PAGE_SIZE)

static void invalidate_all(void)
{
    uint64_t cr3;
    __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}

// ---- Services -----------------------------------------------------------------------------------

int ak_page_prepare(void *start, size_t size)
{
    if (!is_range((uint64_t)start, size))
        return -EINVAL;
    return ak_platform_prepare((uint64_t)start, size);
}

// Translations that other virtual CPUs hold.
static void drop_elsewhere(uint64_t start, size_t size)
{
    if (READ_ONCE(ak_machine->cpus) > 1)
        ak_platform_drop(start, size);
}

int ak_page_protect(void *start, size_t size, enum ak_page_access access)
{
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    bool less = false;
    if (!is_range((uint64_t)start, size) || (unsigned)access > AK_PAGE_WRITE)
        return -EINVAL;
    if (ak_ring())
        return ak_platform_protect((uint64_t)start, size, access);
    bool all = size >= INVALIDATE_ALL;
    int err = ak_claim(&paging, (uint64_t)start, size, access, all ? NULL : invalidate, &less);
    if (all)
        invalidate_all();
    if (less)
        drop_elsewhere((uint64_t)start, size);
    return err;
}

int ak_page_adopt(void *start, size_t size, enum ak_page_access access)
{
    if (ak_ring())
        return -EPERM;
    int err = ak_page_prepare(start, size);
    if (!err)
        err = ak_page_protect(start, size, access);
    // Last, so that no more than that is allowed at any moment.
    return err ? err : ak_platform_drop((uint64_t)start, size);
}

int ak_page_release(void *start, size_t size, enum ak_page_access access)
{
    if (!is_range((uint64_t)start, size) || (unsigned)access > AK_PAGE_WRITE)
        return -EINVAL;
    return ak_ring() ? ak_platform_protect((uint64_t)start, size, access)
                     : ak_platform_release((uint64_t)start, size, access);
}

int ak_page_entry(const void *address, uint64_t *ret)
{
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    if (ak_ring())
        return -EPERM;
    return ak_leaf(&paging, (uint64_t)address, ret) ? 0 : -ENOENT;
}

const uint64_t *ak_page_table(uint64_t physical)
{
    uint64_t offset = ALIGN_DOWN(physical, PAGE_SIZE) - ak_machine->tables.memory;
    if (ak_ring() || offset >= ak_machine->tables.memory_size)
        return NULL;
    return (const uint64_t *)(ak_machine->tables.view + offset);
}

long ak_page_test(void *start, size_t size, unsigned bits, bool clear)
{
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    bool less = false;
    bits &= AK_PAGE_ACCESSED | AK_PAGE_DIRTY;
    if (!is_range((uint64_t)start, size))
        return -EINVAL;
    if (ak_ring())
        return ak_platform_test((uint64_t)start, size, bits, clear);
    long count = ak_count(&paging, (uint64_t)start, size, bits, clear, invalidate, &less);
    if (less)
        drop_elsewhere((uint64_t)start, size);
    return count;
}

// ---- Handlers -----------------------------------------------------------------------------------

// Faults look without the lock, at all times: the ROS may have one begin anew at any instruction,
// so that nobody would give the lock back, and it may have met a change half done, on this very
// virtual CPU. So a range is there as soon as it has a size, and what it says stays until a
// removal.
static struct range *free_range(void)
{
    for (unsigned i = 0; i < handlers.count; i++)
        if (!handlers.range[i].size)
            return &handlers.range[i];
    return handlers.count < RANGES_MAX ? &handlers.range[handlers.count] : NULL;
}

static int add(const struct range *range)
{
    for (unsigned i = 0; i < handlers.count; i++) {
        const struct range *other = &handlers.range[i];
        if (other->size && ranges_overlap(other->start, other->size, range->start, range->size))
            return -EEXIST;
    }
    struct range *place = free_range();
    if (!place)
        return -ENOSPC;
    place->start = range->start;
    place->fn = range->fn;
    place->arg = range->arg;
    __atomic_store_n(&place->size, range->size, __ATOMIC_RELEASE);
    if (place == &handlers.range[handlers.count])
        __atomic_store_n(&handlers.count, handlers.count + 1, __ATOMIC_RELEASE);
    return 0;
}

int ak_fault_handle(void *start, size_t size, ak_fault_fn *fn, void *arg)
{
    const struct range range = {.start = (uint64_t)start, .size = size, .fn = fn, .arg = arg};
    if (!is_range(range.start, size))
        return -EINVAL;
    ak_spin_lock(&handlers.lock);
    int err = add(&range);
    ak_spin_unlock(&handlers.lock);
    return err;
}

int ak_fault_unhandle(void *start)
{
    int err = -ENOENT;
    ak_spin_lock(&handlers.lock);
    for (unsigned i = 0; i < handlers.count; i++) {
        struct range *range = &handlers.range[i];
        if (!range->size || range->start != (uint64_t)start)
            continue;
        WRITE_ONCE(range->size, 0);
        // Before another takes the place.
        __atomic_add_fetch(&handlers.version, 1, __ATOMIC_SEQ_CST);
        err = 0;
    }
    ak_spin_unlock(&handlers.lock);
    return err;
}

// On the stack of the program, below its red zone: everything to come back with.
struct ak_upcall {
    struct mv_frame state; // first, for switch.S
    ak_fault_fn *fn;
    void *arg;
    struct ak_fault fault;
    char *image;  // of the extended state
    char *window; // of the virtual CPU: not every one that faults has attached itself
};
_Static_assert(offsetof(struct ak_upcall, fn) == AK_UPCALL_FN, "switch.S");
_Static_assert(offsetof(struct ak_upcall, arg) == AK_UPCALL_ARG, "switch.S");
_Static_assert(offsetof(struct ak_upcall, fault) == AK_UPCALL_FAULT, "switch.S");

// What ak_upcall() in switch.S calls before the handler and behind it.
void ak_upcall_begin(struct ak_upcall *call);
void ak_upcall_end(struct ak_upcall *call, bool handled);

void ak_upcall_begin(struct ak_upcall *call)
{
    struct ak_xstate x = ak_platform_xstate(call->window);
    ak_xsave(call->image, &x);
}

void ak_upcall_end(struct ak_upcall *call, bool handled)
{
    struct ak_xstate x = ak_platform_xstate(call->window);
    if (!handled)
        ((struct ak_local *)(call->window + AK_CPU_OFFSET))->pass = call->fault.address;
    ak_xrstor(call->image, &x);
}

// Returns AK_FAULT_UPCALL if a range has the address, AK_FAULT_RETRY if another virtual CPU has
// removed one meanwhile.
static enum ak_range_fault find_handler(uint64_t address, struct range *ret)
{
    uint32_t version = __atomic_load_n(&handlers.version, __ATOMIC_ACQUIRE);
    unsigned count = __atomic_load_n(&handlers.count, __ATOMIC_ACQUIRE);
    enum ak_range_fault found = AK_FAULT_OTHER;
    for (unsigned i = 0; i < count; i++) {
        const struct range *range = &handlers.range[i];
        uint64_t size = __atomic_load_n(&range->size, __ATOMIC_ACQUIRE);
        if (address - READ_ONCE(range->start) < size) {
            found = AK_FAULT_UPCALL;
            *ret = *range;
        }
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return READ_ONCE(handlers.version) != version ? AK_FAULT_RETRY : found;
}

enum ak_range_fault ak_range_fault(char *window, struct mv_frame *state, uint64_t address,
                                   bool write)
{
    struct ak_local *cpu = (struct ak_local *)(window + AK_CPU_OFFSET);
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    uint64_t entry;
    struct range range = {0};
    if (!ak_leaf(&paging, address, &entry))
        return AK_FAULT_OTHER;
    bool allowed = entry & (write ? AK_PTE_WRITE : AK_PTE_PRESENT);
    enum ak_range_fault found = find_handler(address, &range);
    if (found == AK_FAULT_UPCALL && allowed)
        found = AK_FAULT_RETRY; // the processor has kept an older entry
    if (found == AK_FAULT_UPCALL && cpu->pass == address) {
        cpu->pass = 0;
        found = AK_FAULT_OTHER;
    }
    if (found != AK_FAULT_UPCALL)
        return found;
    struct ak_xstate x = ak_platform_xstate(window);
    // Two words right below the red zone are where the way back leads through.
    uint64_t image = ALIGN_DOWN(state->rsp - RED_ZONE - 16 - x.size, AK_XSTATE_ALIGN);
    struct ak_upcall *call = (struct ak_upcall *)ALIGN_DOWN(image - sizeof(struct ak_upcall), 16);
    if (!range_is_lower_half((uint64_t)call, state->rsp - (uint64_t)call))
        return AK_FAULT_OTHER;
    memcpy(&call->state, state, MV_FRAME_STATE_BYTES);
    call->fault = (struct ak_fault){.address = address, .rip = state->rip, .write = write};
    call->fn = range.fn;
    call->arg = range.arg;
    call->image = (char *)image;
    call->window = window;
    state->rdi = (uint64_t)call;
    state->rsp = (uint64_t)call;
    state->rip = (uint64_t)ak_upcall;
    state->rflags &= AK_FLAGS_FIXED;
    return AK_FAULT_UPCALL;
}
