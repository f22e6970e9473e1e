#include "rewrite/rewrite.h"

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/membarrier.h>
#include <linux/mman.h>

#include "abi/site.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "rewrite/function.h"
#include "rewrite/maps.h"
#include "rewrite/near.h"
#include "ros/ros.h"

enum { SITES_MAX = 1024, POOLS_MAX = 32, COUNTERS = 256, HOT = 16, MISFIRES_MAX = 8 };
enum { JUMP_BYTES = 5, FUNCTION_ALIGN = 16 };
// What is looked at of a site: SYSCALL, RET, padding, the longest NOP at its end.
enum { SITE_BYTES = 3 * FUNCTION_ALIGN };

// A stub's offsets; its code is below.
enum { STUB_BYTES = MV_STUB_BYTES, STUB_SYSCALL = 26, STUB_AFTER = 28, STUB_MOVED = 35 };

// Stubs lie where the third byte of a jump to them is the invalid opcode: in one window of 256
// bytes out of 64 KiB.
enum { INVALID = MV_SITE_BEHIND, WINDOW_BYTES = 256, WINDOWS_STRIDE = 0x10000 };
#define POOL_BYTES MIB(1)

enum state { SITE_NONE, SITE_CHANGING, SITE_REWRITTEN, SITE_HOPELESS };

struct site {
    uint64_t at;   // the SYSCALL instruction
    uint64_t stub; // 0 for a hopeless one
    enum state state;
    unsigned misfires; // arrivals behind the SYSCALL that trapped
    uint8_t original[JUMP_BYTES], jump[JUMP_BYTES];
    uint8_t moved_bytes;
};

static struct {
    struct mv_lock lock;
    bool enabled;
    unsigned count;
    struct site site[SITES_MAX]; // only ever appended to
    unsigned pools;
    uint64_t pool[POOLS_MAX];
    struct {
        uint64_t after;
        unsigned traps;
    } counter[COUNTERS];
} rw;

void rw_lock(void)
{
    mv_lock(&rw.lock);
}

void rw_unlock(void)
{
    mv_unlock(&rw.lock);
}

static unsigned site_count(void)
{
    return __atomic_load_n(&rw.count, __ATOMIC_ACQUIRE);
}

static bool in_pool(uint64_t address)
{
    for (unsigned i = 0; i < rw.pools; i++)
        if (address - rw.pool[i] < POOL_BYTES)
            return true;
    return false;
}

// The site whose SYSCALL is at `at`, if it has been dealt with.
static struct site *site_at(uint64_t at)
{
    for (unsigned i = site_count(); i-- > 0;)
        if (rw.site[i].at == at && rw.site[i].state != SITE_NONE)
            return &rw.site[i];
    return NULL;
}

static struct site *site_of_stub(uint64_t address)
{
    if (!in_pool(address))
        return NULL;
    for (unsigned i = site_count(); i-- > 0;)
        if (rw.site[i].stub && address - rw.site[i].stub < STUB_BYTES)
            return &rw.site[i];
    return NULL;
}

// True if our jump is (being) written there: the memory may have been mapped anew since.
static bool is_in_force(const struct site *site)
{
    uint8_t bytes[JUMP_BYTES];
    if (site->state == SITE_CHANGING)
        return true;
    return site->state == SITE_REWRITTEN && ros_copy_in(bytes, site->at, sizeof(bytes)) == 0 &&
           memcmp(bytes, site->jump, sizeof(bytes)) == 0;
}

void rw_enable(void)
{
    enum { REGISTER = MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE };
    WRITE_ONCE(rw.enabled, sys3(__NR_membarrier, REGISTER, 0, 0) == 0);
}

bool rw_disable(void)
{
    mv_lock(&rw.lock);
    bool enabled = rw.enabled;
    rw_restore(0, TASK_END);
    WRITE_ONCE(rw.enabled, false);
    mv_unlock(&rw.lock);
    return enabled;
}

bool rw_may_rewrite(uint64_t after)
{
    if (!READ_ONCE(rw.enabled) || after >= TASK_END) // the AeroKernel's own stay
        return false;
    const struct site *site = site_at(after - SYSCALL_BYTES);
    return !(site && site->state == SITE_HOPELESS) && !in_pool(after) && site_count() < SITES_MAX;
}

bool rw_is_hot(uint64_t after)
{
    unsigned i = (unsigned)(after ^ after >> 8) % COUNTERS;
    if (READ_ONCE(rw.counter[i].after) != after) {
        WRITE_ONCE(rw.counter[i].after, after);
        WRITE_ONCE(rw.counter[i].traps, 0);
    }
    unsigned traps = READ_ONCE(rw.counter[i].traps) + 1;
    WRITE_ONCE(rw.counter[i].traps, traps);
    return traps >= HOT && traps % HOT == 0 && rw_may_rewrite(after);
}

// ---- Stubs -------------------------------------------------------------------------------------

// RCX and R11 are SYSCALL's to spoil; the flags, the stack and the red zone are not ours. Behind
// the call RCX is what SYSCALL makes of it: the address behind the site.
static void build_stub(uint8_t *code, const struct site *site, const uint8_t *moved_code)
{
    static const uint8_t head[STUB_MOVED] = {
        0xf3, 0x49, 0x0f, 0xae, 0xcb,             //  0: rdgsbase %r11
        0x4c, 0x89, 0xd9,                         //  5: mov %r11, %rcx
        0x48, 0x0f, 0xc9,                         //  8: bswap %rcx
        0x0f, 0xb6, 0xc9,                         // 11: movzbl %cl, %ecx: not 0 in the HRT only
        0xe3, 0x0a,                               // 14: jrcxz 26
        0x48, 0x8d, 0x0d, 0x05, 0x00, 0x00, 0x00, // 16: lea 28(stub), %rcx
        0x41, 0xff, 0xe3,                         // 23: jmp *%r11: the AeroKernel's window
        0x0f, 0x05,                               // 26: syscall
        0x48, 0x8d, 0x0d, 0,    0,    0,    0,    // 28: lea behind(%rip), %rcx
    };
    unsigned moved = site->moved_bytes, end = STUB_MOVED + moved + JUMP_BYTES;
    int64_t behind = (int64_t)(site->at + SYSCALL_BYTES);
    memset(code, 0xcc, STUB_BYTES);
    memcpy(code, head, sizeof(head));
    rw_put32(code + STUB_MOVED - 4, behind - (int64_t)(site->stub + STUB_MOVED));
    memcpy(code + STUB_MOVED, moved_code, moved);
    code[STUB_MOVED + moved] = 0xe9; // jmp behind it
    rw_put32(code + STUB_MOVED + moved + 1, behind + moved - (int64_t)(site->stub + end));
}

// Length of the padding instruction at `code`: INT3, or one of the NOPs that assemblers use; 0 if
// it is none of them.
static unsigned padding_length(const uint8_t *code)
{
    unsigned at = 0;
    while (at < 10 && (code[at] == 0x66 || code[at] == 0x2e))
        at++;
    if (code[at] == 0x90 || (code[at] == 0xcc && !at))
        return at + 1;
    if (code[at] != 0x0f || code[at + 1] != 0x1f)
        return 0;
    unsigned mod = code[at + 2] >> 6, sib = (code[at + 2] & 7) == 4;
    return at + 3 + sib + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

// True if `code`, at address `at`, is padding up to where the next function may begin, and there
// are two bytes of it: nobody goes there.
static bool is_padding(const uint8_t *code, uint64_t at)
{
    uint64_t room = ALIGN_UP(at, FUNCTION_ALIGN) - at, used = 0;
    while (used < room) {
        unsigned length = padding_length(code + used);
        if (!length)
            return false;
        used += length;
    }
    return used == room && room >= 2;
}

// Length of the instruction at `code`, behind the SYSCALL at `at`, if it may be moved: the jump has
// to end within it, and it must not depend on its own address. What compilers put there.
static unsigned movable(const uint8_t *code, uint64_t at)
{
    enum { RET = 0xc3 };
    static const struct {
        uint8_t bytes[3], count, length;
    } known[] = {
        {{0x48, 0x3d}, 2, 6},       // cmp $imm32, %rax
        {{0x3d}, 1, 5},             // cmp $imm32, %eax
        {{0x48, 0x83, 0xf8}, 3, 4}, // cmp $imm8, %rax
        {{0x83, 0xf8}, 2, 3},       // cmp $imm8, %eax
        {{0x48, 0x85, 0xc0}, 3, 3}, // test %rax, %rax
    };
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
        if (memcmp(code, known[i].bytes, known[i].count) == 0)
            return known[i].length;
    if (code[0] == RET && is_padding(code + 1, at + SYSCALL_BYTES + 1))
        return 1;
    bool move = (code[0] == 0x48 || code[0] == 0x49) && code[1] == 0x89 && code[2] >= 0xc0;
    return move ? 3 : 0; // mov %reg, %reg
}

bool rw_is_prefix(uint8_t byte)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3};
    for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (byte == prefixes[i])
            return true;
    return (byte & 0xf0) == 0x40; // REX
}

// True if the byte before the SYSCALL may be a prefix of it. A jump does not ignore all of them
// (0x66 is another one's on AMD's processors), and where an invalid opcode is in the jump's place
// the trap is at the prefix.
static bool may_have_prefix(uint64_t at)
{
    uint8_t before = 0;
    ros_copy_in(&before, at - 1, 1);
    return rw_is_prefix(before);
}

static uint64_t make_pool(uint64_t at)
{
    uint64_t pool = rw.pools < POOLS_MAX ? rw_map_near(at, POOL_BYTES) : 0;
    if (pool)
        rw.pool[rw.pools++] = pool;
    return pool;
}

static bool is_taken(uint64_t stub)
{
    for (unsigned i = 0; i < site_count(); i++)
        if (rw.site[i].stub == stub)
            return true;
    return false;
}

// A free stub in the pool to which a jump from `at` has the invalid opcode as its third byte.
static uint64_t stub_in_pool(uint64_t pool, uint64_t at)
{
    uint64_t from = at + JUMP_BYTES;
    uint64_t first = ALIGN_DOWN(pool - from, WINDOWS_STRIDE) + from + INVALID * WINDOW_BYTES;
    for (uint64_t window = first; window < pool + POOL_BYTES; window += WINDOWS_STRIDE) {
        uint64_t stub = ALIGN_UP(window, STUB_BYTES);
        for (; stub < window + WINDOW_BYTES; stub += STUB_BYTES)
            if (stub >= pool && stub + STUB_BYTES <= pool + POOL_BYTES && !is_taken(stub))
                return stub;
    }
    return 0;
}

static uint64_t find_stub(uint64_t at)
{
    uint64_t stub = 0;
    for (unsigned i = 0; i < rw.pools && !stub; i++)
        if (rw_reaches(rw.pool[i], at))
            stub = stub_in_pool(rw.pool[i], at);
    uint64_t pool = stub ? 0 : make_pool(at);
    return pool ? stub_in_pool(pool, at) : stub;
}

// ---- Writing code ------------------------------------------------------------------------------

// Make all cores that run this process refetch what they have fetched.
static void refetch(void)
{
    sys3(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
}

static void store(uint64_t at, unsigned offset, uint8_t byte)
{
    WRITE_ONCE(((uint8_t *)at)[offset], byte);
}

// Replace the bytes of a site while others may be executing them. Whoever comes by in between meets
// an invalid opcode, at the SYSCALL or behind it, and rw_trapped() sends him on.
static int replace(const struct site *site, const uint8_t *to)
{
    bool rewriting = to == site->jump;
    int err = rw_protect(site->at, JUMP_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (err)
        return err;
    store(site->at, 0, INVALID);
    refetch();
    if (rewriting) {
        store(site->at, 2, to[2]);
        refetch();
    }
    store(site->at, 1, to[1]);
    store(site->at, 3, to[3]);
    store(site->at, 4, to[4]);
    refetch();
    if (!rewriting) {
        store(site->at, 2, to[2]);
        refetch();
    }
    store(site->at, 0, to[0]);
    refetch();
    rw_protect(site->at, JUMP_BYTES, PROT_READ | PROT_EXEC); // without memory: left writable
    return 0;
}

// moved_code: the instruction behind the SYSCALL, as it was when it was found to be movable.
static int write_stub(const struct site *site, const uint8_t *moved_code)
{
    uint8_t code[STUB_BYTES];
    build_stub(code, site, moved_code);
    // Others in the same page may be executing.
    int err = rw_protect(site->stub, STUB_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (err)
        return err;
    memcpy((void *)site->stub, code, sizeof(code));
    return rw_protect(site->stub, STUB_BYTES, PROT_READ | PROT_EXEC);
}

// Only code that is private to the process and not being written may be changed.
static bool is_private_code(uint64_t at)
{
    struct rw_mapping mapping;
    return rw_find_mapping(at, &mapping) == 0 && mapping.end - at >= SITE_BYTES &&
           mapping.readable && mapping.executable && !mapping.writable && !mapping.shared;
}

// With both locks held.
static bool rewrite(struct site *site)
{
    uint8_t code[SITE_BYTES];
    if (mv_region_touches(site->at, sizeof(code)) || !is_private_code(site->at) ||
        ros_copy_in(code, site->at, sizeof(code)) || code[0] != 0x0f || code[1] != 0x05 ||
        may_have_prefix(site->at))
        return false;
    site->moved_bytes = (uint8_t)movable(code + SYSCALL_BYTES, site->at);
    // Half of it could be mapped anew if it lay in two pages.
    uint64_t last = site->at + MAX(SYSCALL_BYTES + site->moved_bytes, JUMP_BYTES) - 1;
    if (!site->moved_bytes || last / PAGE_SIZE != site->at / PAGE_SIZE)
        return false;
    site->stub = find_stub(site->at);
    if (!site->stub)
        return false;
    memcpy(site->original, code, sizeof(site->original));
    site->jump[0] = 0xe9;
    rw_put32(site->jump + 1, (int64_t)site->stub - (int64_t)(site->at + JUMP_BYTES));
    if (write_stub(site, code + SYSCALL_BYTES) || ros_space_allow_execute(site->stub, STUB_BYTES))
        return false;
    WRITE_ONCE(site->state, SITE_CHANGING);
    if (replace(site, site->jump))
        return false;
    WRITE_ONCE(site->state, SITE_REWRITTEN);
    return true;
}

void rw_rewrite(uint64_t after)
{
    uint64_t at = after - SYSCALL_BYTES;
    mv_lock(&rw.lock);
    const struct site *known = site_at(at);
    bool wanted = !known || (known->state == SITE_REWRITTEN && !is_in_force(known));
    if (wanted && rw.enabled && rw.count < SITES_MAX) {
        struct site *site = &rw.site[rw.count];
        *site = (struct site){.at = at};
        ros_space_lock();
        __atomic_store_n(&rw.count, rw.count + 1, __ATOMIC_RELEASE);
        if (!rewrite(site))
            WRITE_ONCE(site->state, SITE_HOPELESS);
        ros_space_unlock();
    }
    mv_unlock(&rw.lock);
}

// With rw.lock held.
static void restore(struct site *site, enum state state)
{
    ros_space_lock();
    if (site->state == SITE_REWRITTEN && is_in_force(site)) {
        WRITE_ONCE(site->state, SITE_CHANGING);
        int err = replace(site, site->original);
        WRITE_ONCE(site->state, err ? SITE_REWRITTEN : state);
    }
    ros_space_unlock();
}

void rw_restore(uint64_t start, uint64_t size)
{
    for (unsigned i = 0; i < site_count(); i++)
        if (ranges_overlap(rw.site[i].at, JUMP_BYTES, start, size))
            restore(&rw.site[i], SITE_NONE);
}

// ---- Addresses ---------------------------------------------------------------------------------

uint64_t rw_program_rip(uint64_t rip)
{
    const struct site *site = site_of_stub(rip);
    if (!site)
        return rw_function_program_rip(rip);
    uint64_t offset = rip - site->stub;
    if (offset < STUB_AFTER)
        return site->at;
    if (offset <= STUB_MOVED)
        return site->at + SYSCALL_BYTES;
    return site->at + SYSCALL_BYTES + site->moved_bytes;
}

uint64_t rw_returned(uint64_t rip)
{
    const struct site *site = site_of_stub(rip);
    return site && rip - site->stub == STUB_AFTER ? site->at + SYSCALL_BYTES : 0;
}

uint64_t rw_resume_rip(uint64_t rip)
{
    const struct site *site = rw.enabled ? site_at(rip - SYSCALL_BYTES) : NULL;
    if (site && site->stub && is_in_force(site))
        return site->stub + STUB_MOVED;
    return rw_function_resume_rip(rip);
}

uint64_t rw_trapped(uint64_t rip)
{
    struct site *site = site_at(rip - SYSCALL_BYTES);
    if (site && site->stub && is_in_force(site)) {
        // The program jumps there: then a trap at the SYSCALL is the lesser evil.
        if (__atomic_add_fetch(&site->misfires, 1, __ATOMIC_RELAXED) == MISFIRES_MAX) {
            mv_lock(&rw.lock);
            restore(site, SITE_HOPELESS);
            mv_unlock(&rw.lock);
        }
        return site->stub + STUB_MOVED;
    }
    site = site_at(rip);
    if (!site || !site->stub)
        return 0;
    if (site->state == SITE_CHANGING)
        return site->stub + STUB_SYSCALL;
    return is_in_force(site) ? rip : 0; // the change is complete
}

bool rw_in_stub(uint64_t rip)
{
    const struct site *site = site_of_stub(rip);
    return site && rip - site->stub < STUB_SYSCALL;
}

uint64_t rw_syscall_of(uint64_t rip)
{
    const struct site *site = site_of_stub(rip);
    return site ? site->stub + STUB_SYSCALL : rip;
}
