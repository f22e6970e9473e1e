#include "rewrite/function.h"

#include <linux/mman.h>

#include "base/string.h"
#include "rewrite/maps.h"
#include "rewrite/near.h"
#include "rewrite/rewrite.h"
#include "ros/ros.h"

// A stub. Its offsets:
enum { STUB_BYTES = 64, STUB_MOVED = 8, STUB_SLOT = 56, JUMP_BYTES = 5 };
enum { POOLS_MAX = 32, POOL_BYTES = KIB(64) };

_Static_assert(STUB_MOVED + MV_OVERRIDE_CODE_MAX + JUMP_BYTES <= STUB_SLOT, "a stub holds it all");

static struct {
    unsigned pools;
    struct pool {
        uint64_t start;
        unsigned used; // stubs
    } pool[POOLS_MAX];
} taken;

static struct pool *pool_near(uint64_t at)
{
    for (unsigned i = 0; i < taken.pools; i++)
        if (rw_reaches(taken.pool[i].start, at) && taken.pool[i].used < POOL_BYTES / STUB_BYTES)
            return &taken.pool[i];
    if (taken.pools == POOLS_MAX)
        return NULL;
    uint64_t start = rw_map_near(at, POOL_BYTES);
    if (!start)
        return NULL;
    taken.pool[taken.pools] = (struct pool){.start = start};
    return &taken.pool[taken.pools++];
}

// What was said about the instructions must be so: it came from outside.
static bool is_sound(const struct mv_override_function *function)
{
    if (function->length < JUMP_BYTES || function->length > MV_OVERRIDE_CODE_MAX)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(function->end); i++)
        if (function->end[i] > function->length ||
            (function->end[i] && function->displacement[i] + 4U > function->end[i]))
            return false;
    return true;
}

// Move the instructions to `to`. Returns false if a displacement does not reach from there.
static bool move(const struct mv_override_function *function, uint64_t at, uint8_t *code,
                 uint64_t to)
{
    memcpy(code, function->bytes, function->length);
    for (unsigned i = 0; i < ARRAY_SIZE(function->end); i++) {
        int32_t was;
        if (!function->end[i])
            continue;
        memcpy(&was, code + function->displacement[i], sizeof(was));
        int64_t is = was + (int64_t)(at - to);
        if (is != (int32_t)is)
            return false;
        rw_put32(code + function->displacement[i], is);
    }
    return true;
}

static bool may_be_changed(uint64_t at, unsigned length)
{
    struct rw_mapping mapping;
    return !rw_find_mapping(at, &mapping) && mapping.end - at >= length && mapping.executable &&
           !mapping.writable && !mapping.shared;
}

static uint64_t take_over(uint64_t at, const struct mv_override_function *function, uint64_t to)
{
    uint8_t code[STUB_BYTES], there[MV_OVERRIDE_CODE_MAX], jump[JUMP_BYTES] = {0xe9};
    unsigned length = function->length;
    if (!is_sound(function) || !may_be_changed(at, length) || ros_copy_in(there, at, length) ||
        memcmp(there, function->bytes, length) != 0)
        return 0;
    struct pool *pool = pool_near(at);
    if (!pool)
        return 0;
    uint64_t stub = pool->start + (uint64_t)pool->used * STUB_BYTES;
    memset(code, 0xcc, sizeof(code));
    code[0] = 0xff, code[1] = 0x25; // jmp *slot(%rip)
    rw_put32(code + 2, STUB_SLOT - 6);
    if (!move(function, at, code + STUB_MOVED, stub + STUB_MOVED))
        return 0;
    code[STUB_MOVED + length] = 0xe9;
    rw_put32(code + STUB_MOVED + length + 1,
             (int64_t)(at + length) - (int64_t)(stub + STUB_MOVED + length + JUMP_BYTES));
    memcpy(code + STUB_SLOT, &to, sizeof(to));
    rw_put32(jump + 1, (int64_t)stub - (int64_t)(at + JUMP_BYTES));

    // Other functions' stubs in the pool may be executing: it stays executable all the time.
    enum { ALL = PROT_READ | PROT_WRITE | PROT_EXEC, CODE = PROT_READ | PROT_EXEC };
    if (rw_protect(stub, STUB_BYTES, ALL))
        return 0;
    memcpy((void *)stub, code, sizeof(code));
    rw_protect(stub, STUB_BYTES, CODE); // without memory: left writable
    if (ros_space_allow_execute(stub, STUB_BYTES) || rw_protect(at, JUMP_BYTES, ALL))
        return 0;
    pool->used++;
    memcpy((void *)at, jump, sizeof(jump));
    rw_protect(at, JUMP_BYTES, CODE);
    return stub + STUB_MOVED;
}

uint64_t rw_take_over(uint64_t at, const struct mv_override_function *function, uint64_t to)
{
    rw_lock();
    ros_space_lock();
    uint64_t original = take_over(at, function, to);
    ros_space_unlock();
    rw_unlock();
    return original;
}

void rw_give_back(void)
{
    rw_lock();
    for (unsigned i = 0; i < taken.pools; i++) {
        const struct pool *pool = &taken.pool[i];
        if (rw_protect(pool->start, POOL_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC))
            continue;
        for (unsigned j = 0; j < pool->used; j++) {
            uint64_t stub = pool->start + (uint64_t)j * STUB_BYTES;
            *(uint64_t *)(stub + STUB_SLOT) = stub + STUB_MOVED;
        }
        rw_protect(pool->start, POOL_BYTES, PROT_READ | PROT_EXEC);
    }
    rw_unlock();
}
