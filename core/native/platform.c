// The platform of native programs: a machine of their own. Where a monitor made it, it answers the
// doorbell; elsewhere there is a PC's hardware (pc.c).

#include "aerokernel/platform.h"

#include <asm/errno.h>

#include "base/string.h"
#include "native/native.h"

#define SMALLEST_ARENA KIB(64)
#define X87_SSE 3ULL

const struct mv_machine *ak_machine;
struct mv_boot *ak_boot;

// ---- The doorbell -------------------------------------------------------------------------------

static int64_t call(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    char *window = (char *)ak_local() - AK_CPU_OFFSET;
    struct mv_call *request = (struct mv_call *)(window + AK_FRAME_OFFSET);
    *request = (struct mv_call){.op = op, .arg = {a, b, c, d}};
    if (ak_boot->ring)
        __asm__ volatile("movl %%eax, (%0)" : : "r"(window + AK_DOORBELL_OFFSET) : "memory");
    else
        __asm__ volatile("outb %%al, %0" : : "i"(AK_PORT_DOORBELL) : "memory");
    return *(volatile int64_t *)&request->result;
}

// ---- Memory -------------------------------------------------------------------------------------

// With the allocator's lock held.
bool ak_platform_memory(uint64_t *start, uint64_t *size)
{
    static unsigned next;
    for (; next < ak_boot->ranges; next++) {
        struct mv_boot_range *range = &ak_boot->range[next];
        uint64_t room = AK_ARENA_BYTES - range->start % AK_ARENA_BYTES;
        *start = range->start;
        *size = MIN(room, range->size);
        range->start += *size;
        range->size -= *size;
        if (*size < SMALLEST_ARENA) {
            next -= range->size != 0;
            continue;
        }
        if (!ak_boot->doorbell) // a monitor's memory is new
            memset((void *)*start, 0, *size / 64);
        return true;
    }
    return false;
}

// ---- Virtual CPUs -------------------------------------------------------------------------------

void ak_platform_sleep(struct ak_local *cpu, uint64_t ns)
{
    if (ak_boot->doorbell)
        call(MV_CALL_SLEEP, ns, 0, 0, 0);
    else
        ak_pc_sleep(cpu->asleep, ns);
}

void ak_platform_wake(struct ak_local *cpu)
{
    if (ak_boot->doorbell)
        call(MV_CALL_WAKE, cpu->id, 0, 0, 0);
    else
        ak_pc_wake(cpu->id);
}

struct ak_xstate ak_platform_xstate(const char *window)
{
    (void)window;
    return (struct ak_xstate){.features = ak_boot->xcr0 ? ak_boot->xcr0 : X87_SSE,
                              .size = ak_boot->xsave_size,
                              .fxsave_only = !ak_boot->xcr0};
}

// ---- The outside --------------------------------------------------------------------------------

void ak_platform_write(const char *bytes, size_t size)
{
    if (ak_boot->doorbell)
        call(MV_CALL_WRITE, (uint64_t)bytes, size, 0, 0);
    else
        ak_pc_write(bytes, size);
}

void ak_native_end(int status, const char *text, size_t size)
{
    if (!ak_boot->doorbell)
        ak_pc_end(status, text, size);
    for (;;)
        call(MV_CALL_END, (uint64_t)status, (uint64_t)text, size, 0);
}

void ak_platform_overrun(void)
{
    static const char text[] = "what=overrun";
    ak_native_end(MV_STATUS_OVERRUN, text, sizeof(text) - 1);
}

// ---- Page tables --------------------------------------------------------------------------------

int ak_platform_prepare(uint64_t start, uint64_t size)
{
    static struct ak_spin lock;
    if (ak_boot->ring)
        return (int)call(MV_CALL_PREPARE, start, size, 0, 0);
    struct ak_memory view;
    struct ak_paging paging = ak_tables(&view);
    ak_spin_lock(&lock);
    view.used = ak_boot->tables_used;
    int err = ak_split(&paging, start, size);
    ak_boot->tables_used = view.used;
    ak_spin_unlock(&lock);
    return err;
}

int ak_platform_drop(uint64_t start, uint64_t size)
{
    if (ak_boot->doorbell)
        return (int)call(MV_CALL_DROP, start, size, 0, 0);
    ak_pc_drop();
    return 0;
}

// There is no Linux to leave it to.
int ak_platform_release(uint64_t start, uint64_t size, enum ak_page_access access)
{
    return ak_page_protect((void *)start, size, access);
}

int ak_platform_protect(uint64_t start, uint64_t size, enum ak_page_access access)
{
    return (int)call(MV_CALL_PROTECT, start, size, access, 0);
}

long ak_platform_test(uint64_t start, uint64_t size, unsigned bits, bool clear)
{
    return call(MV_CALL_TEST, start, size, bits, clear);
}
