// Page-table services and fault handlers. At ring 0 the HRT edits its own tables; at ring 3 it
// cannot, and Linux protects, which the tables then repeat (paging.h, "guard").

#include "include/aerokernel/page.h"

#include <asm/errno.h>
#include <linux/mman.h>

#include "aerokernel/image.h"
#include "aerokernel/kernel.h"
#include "aerokernel/paging.h"
#include "base/string.h"
#include "base/sys.h"
#include "superposition/signal.h"

enum { RANGES_MAX = 64, RED_ZONE = 128 };
#define ERROR_WRITE 2ULL

static struct {
    struct ak_spin lock;
    unsigned count;
    struct range {
        uint64_t start, size;
        ak_fault_fn *fn;
        void *arg;
    } range[RANGES_MAX];
} handlers;

struct ak_paging ak_tables(struct ak_memory *view)
{
    *view = (struct ak_memory){.host = (char *)AK_MEMORY_VIEW,
                               .gpa = ak_control->tables.memory,
                               .size = ak_control->tables.memory_size,
                               .used = ak_control->tables.memory_size};
    return (struct ak_paging){
        .memory = view, .root = (uint64_t *)(AK_MEMORY_VIEW + ak_control->tables.root - view->gpa)};
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

// ---- Services -----------------------------------------------------------------------------------

int ak_page_prepare(void *start, size_t size)
{
    if (!is_range((uint64_t)start, size))
        return -EINVAL;
    return (int)sys3(MV_NR_AEROKERNEL, MV_AEROKERNEL_PREPARE, start, size);
}

// Translations that other virtual CPUs hold: Linux has them dropped when it changes a mapping.
static void drop_elsewhere(uint64_t start, size_t size)
{
    sys3(MV_NR_AEROKERNEL, MV_AEROKERNEL_DROP, start, size);
}

static uint64_t with_access(uint64_t entry, enum ak_page_access access)
{
    entry &= ~(AK_PTE_PRESENT | AK_PTE_WRITE | AK_PTE_CLAIMED);
    if (access == AK_PAGE_WRITE)
        return entry | AK_PTE_PRESENT | AK_PTE_WRITE;
    return entry | AK_PTE_CLAIMED | (access == AK_PAGE_READ ? AK_PTE_PRESENT : 0);
}

static int protect_entries(uint64_t start, size_t size, enum ak_page_access access)
{
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    bool less = false;
    for (uint64_t at = start; at < start + size; at += PAGE_SIZE)
        if (!ak_page_leaf(&paging, at))
            return -EINVAL;
    for (uint64_t at = start; at < start + size; at += PAGE_SIZE) {
        uint64_t *entry = ak_page_leaf(&paging, at), before = READ_ONCE(*entry), after;
        do
            after = with_access(before, access);
        while (!__atomic_compare_exchange_n(entry, &before, after, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED));
        if (before == after)
            continue;
        invalidate(at);
        less = less || (before & ~after & (AK_PTE_PRESENT | AK_PTE_WRITE));
    }
    if (less && READ_ONCE(ak_control->vcpus) > 1)
        drop_elsewhere(start, size);
    return 0;
}

int ak_page_protect(void *start, size_t size, enum ak_page_access access)
{
    static const int prot[] = {
        [AK_PAGE_NONE] = PROT_NONE,
        [AK_PAGE_READ] = PROT_READ,
        [AK_PAGE_WRITE] = PROT_READ | PROT_WRITE,
    };
    if (!is_range((uint64_t)start, size) || (unsigned)access > AK_PAGE_WRITE)
        return -EINVAL;
    return ak_ring() ? (int)sys3(__NR_mprotect, start, size, prot[access])
                     : protect_entries((uint64_t)start, size, access);
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
    uint64_t offset = ALIGN_DOWN(physical, PAGE_SIZE) - ak_control->tables.memory;
    if (ak_ring() || offset >= ak_control->tables.memory_size)
        return NULL;
    return (const uint64_t *)(AK_MEMORY_VIEW + offset);
}

long ak_page_test(void *start, size_t size, unsigned bits, bool clear)
{
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    uint64_t from = (uint64_t)start, wanted = bits & (AK_PAGE_ACCESSED | AK_PAGE_DIRTY);
    long count = 0, cleared = 0;
    if (ak_ring())
        return -EPERM;
    if (!is_range(from, size))
        return -EINVAL;
    for (uint64_t at = from; at < from + size; at += PAGE_SIZE)
        if (!ak_page_leaf(&paging, at))
            return -EINVAL;
    for (uint64_t at = from; at < from + size; at += PAGE_SIZE) {
        uint64_t *entry = ak_page_leaf(&paging, at), before = READ_ONCE(*entry);
        if (clear && (before & wanted)) {
            before = __atomic_fetch_and(entry, ~wanted, __ATOMIC_RELAXED);
            invalidate(at);
            cleared++;
        }
        count += (before & wanted) == wanted;
    }
    if (cleared && READ_ONCE(ak_control->vcpus) > 1)
        drop_elsewhere(from, size);
    return count;
}

// ---- Handlers -----------------------------------------------------------------------------------

int ak_fault_handle(void *start, size_t size, ak_fault_fn *fn, void *arg)
{
    if (!is_range((uint64_t)start, size))
        return -EINVAL;
    int err = 0;
    ak_spin_lock(&handlers.lock);
    for (unsigned i = 0; i < handlers.count; i++)
        if (ranges_overlap(handlers.range[i].start, handlers.range[i].size, (uint64_t)start, size))
            err = -EEXIST;
    if (!err && handlers.count == RANGES_MAX)
        err = -ENOSPC;
    if (!err)
        handlers.range[handlers.count++] =
            (struct range){.start = (uint64_t)start, .size = size, .fn = fn, .arg = arg};
    ak_spin_unlock(&handlers.lock);
    return err;
}

int ak_fault_unhandle(void *start)
{
    int err = -ENOENT;
    ak_spin_lock(&handlers.lock);
    for (unsigned i = 0; i < handlers.count; i++)
        if (handlers.range[i].start == (uint64_t)start) {
            handlers.range[i] = handlers.range[--handlers.count];
            err = 0;
            break;
        }
    ak_spin_unlock(&handlers.lock);
    return err;
}

// On the stack of the program, below its red zone: everything to come back with.
struct ak_upcall {
    struct mv_frame state; // first, for switch.S
    struct ak_fault fault;
    ak_fault_fn *fn;
    void *arg;
    char *image;  // of the extended state
    char *window; // of the virtual CPU: not every one that faults has attached itself
};

void ak_upcall_run(struct ak_upcall *call);
void ak_upcall_run(struct ak_upcall *call)
{
    struct sf_xstate x = ak_xstate(call->window);
    ak_xsave(call->image, &x);
    if (!call->fn(&call->fault, call->arg))
        ((struct ak_local *)(call->window + AK_CPU_OFFSET))->pass = call->fault.address;
    ak_xrstor(call->image, &x);
}

// Returns AK_FAULT_UPCALL if a range has the address, AK_FAULT_RETRY if another virtual CPU is
// changing the handlers.
static enum ak_range_fault find_handler(uint64_t address, struct range *ret)
{
    if (!READ_ONCE(handlers.count))
        return AK_FAULT_OTHER;
    if (!ak_spin_try(&handlers.lock))
        return AK_FAULT_RETRY;
    enum ak_range_fault found = AK_FAULT_OTHER;
    for (unsigned i = 0; i < handlers.count; i++)
        if (address - handlers.range[i].start < handlers.range[i].size) {
            found = AK_FAULT_UPCALL;
            *ret = handlers.range[i];
        }
    ak_spin_unlock(&handlers.lock);
    return found;
}

enum ak_range_fault ak_range_fault(char *window)
{
    struct mv_trap *trap = ak_trap(window);
    struct ak_local *cpu = (struct ak_local *)(window + AK_CPU_OFFSET);
    struct mv_frame *frame = ak_frame(window);
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    uint64_t entry;
    struct range range;
    if (!ak_leaf(&paging, trap->cr2, &entry))
        return AK_FAULT_OTHER;
    bool write = trap->error & ERROR_WRITE;
    bool allowed = entry & (write ? AK_PTE_WRITE : AK_PTE_PRESENT);
    enum ak_range_fault found = find_handler(trap->cr2, &range);
    if (found == AK_FAULT_UPCALL && allowed)
        found = AK_FAULT_RETRY; // the processor has kept an older entry
    if (found == AK_FAULT_UPCALL && cpu->pass == trap->cr2) {
        cpu->pass = 0;
        found = AK_FAULT_OTHER;
    }
    trap->next = (struct mv_trap_word){.blocked_sync = trap->word.blocked_sync};
    memcpy(frame, &trap->state, MV_FRAME_STATE_BYTES);
    if (found != AK_FAULT_UPCALL)
        return found;
    struct sf_xstate x = ak_xstate(window);
    // Two words right below the red zone are where the way back leads through.
    uint64_t image = ALIGN_DOWN(trap->state.rsp - RED_ZONE - 16 - x.size - SF_MAGIC2_BYTES, 64);
    struct ak_upcall *call = (struct ak_upcall *)ALIGN_DOWN(image - sizeof(struct ak_upcall), 16);
    if (!range_is_lower_half((uint64_t)call, trap->state.rsp - (uint64_t)call))
        return AK_FAULT_OTHER;
    memcpy(&call->state, &trap->state, MV_FRAME_STATE_BYTES);
    call->fault = (struct ak_fault){.address = trap->cr2, .rip = trap->state.rip, .write = write};
    call->fn = range.fn;
    call->arg = range.arg;
    call->image = (char *)image;
    call->window = window;
    frame->rdi = (uint64_t)call;
    frame->rsp = (uint64_t)call;
    frame->rip = (uint64_t)ak_upcall;
    frame->rflags = AK_FLAGS_FIXED;
    return AK_FAULT_UPCALL;
}
