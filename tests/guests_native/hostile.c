// Asks the monitor for nonsense, at the doorbell itself (core/abi/boot.h, core/abi/frame.h).
#include <aerokernel.h>

#define WINDOW 0xffffffff80200000ull
struct call {
    uint64_t op, arg[4];
    int64_t result;
};

static uint64_t seed = 88172645463325252ull;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static int64_t ring(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    volatile struct call *call = (volatile struct call *)(WINDOW + 0x1000);
    call->op = op;
    call->arg[0] = a, call->arg[1] = b, call->arg[2] = c, call->arg[3] = d;
    if (ak_ring())
        __asm__ volatile("movl %%eax, (%0)" : : "r"(WINDOW + 0x2000) : "memory");
    else
        __asm__ volatile("outb %%al, $0xf0" : : : "memory");
    return call->result;
}

// A number of the kind that breaks things: around borders, of pages and of all.
static uint64_t odd(void)
{
    static const uint64_t borders[] = {
        0, 4096, 0x200000, 256ull << 20, 0xd0000000, 1ull << 32, 1ull << 47, 1ull << 63,
    };
    uint64_t border = borders[any() % 8];
    switch (any() % 4) {
    case 0:
        return any();
    case 1:
        return border + any() % 3 * 4096 - 4096;
    case 2:
        return border - any() % 16;
    default:
        return any() % (1 << 28) & ~4095ull;
    }
}

int main(void)
{
    enum { WRITE = 1, END, SLEEP, WAKE, PREPARE, PROTECT, TEST, DROP, ROUNDS = 3000 };
    char *page = ak_pages_alloc(0);
    if (ak_page_prepare(page, AK_PAGE_SIZE))
        return 1;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t op = any() % 16 ? any() % 12 : any(), at = odd(), size = odd();
        if (op == END || op == PROTECT || (op == WRITE && size > 100 && size < 1ull << 30))
            continue; // these it may ask for
        ring(op, op == SLEEP ? any() % 1000 : at, size, odd(), odd());
    }
    // Pages of its own, whose protection cannot lose anything.
    for (int i = 0; i < ROUNDS / 10; i++)
        ring(PROTECT, (uint64_t)page + odd() % 3 * 2048, i % 2 ? AK_PAGE_SIZE : odd() | 1, odd(),
             odd());
    if (ring(PROTECT, (uint64_t)page, AK_PAGE_SIZE, 3, 0) >= 0)
        return 2;
    ak_page_protect(page, AK_PAGE_SIZE, AK_PAGE_WRITE);
    page[0] = 1;
    ak_print("still there");
    return 7;
}
