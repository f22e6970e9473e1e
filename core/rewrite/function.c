#include "rewrite/function.h"

#include <linux/mman.h>

#include "base/region.h"
#include "base/string.h"
#include "rewrite/maps.h"
#include "rewrite/near.h"
#include "rewrite/rewrite.h"
#include "ros/ros.h"

// A stub. Its offsets; a stub that a resolver answers with has STUB_ANSWER, where the resolver
// jumps to, in the place of STUB_MOVED.
enum {
    STUB_BYTES = 64,
    STUB_MOVED = 8,
    STUB_ANSWER = 8,
    STUB_SLOT = 56,
    JUMP_BYTES = 5,
    JUMP = 0xe9
};
enum { POOLS_MAX = 32, POOL_BYTES = KIB(64), POOL_STUBS = POOL_BYTES / STUB_BYTES };

_Static_assert(STUB_MOVED + MV_OVERRIDE_CODE_MAX + JUMP_BYTES <= STUB_SLOT, "a stub holds it all");

static struct {
    unsigned pools;
    struct pool {
        uint64_t start;
        unsigned used; // stubs
        struct stub {
            uint64_t at;     // the function, or 0: this one is for a resolver's answers
            uint64_t after;  // behind what the jump has replaced,
            uint64_t end;    // and the stub's jump to there
            uint64_t chosen; // the module's variable with what a resolver chose, or 0
        } *stub;
    } pool[POOLS_MAX];
} taken;

static struct pool *pool_near(uint64_t at, unsigned stubs)
{
    for (unsigned i = 0; i < taken.pools; i++)
        if (rw_reaches(taken.pool[i].start, at) && taken.pool[i].used + stubs <= POOL_STUBS)
            return &taken.pool[i];
    if (taken.pools == POOLS_MAX)
        return NULL;
    struct stub *stub = mv_region_alloc(POOL_STUBS * sizeof(*stub));
    uint64_t start = stub ? rw_map_near(at, POOL_BYTES) : 0;
    if (!start)
        return NULL;
    taken.pool[taken.pools] = (struct pool){.start = start, .stub = stub};
    return &taken.pool[taken.pools++];
}

// What was said about the instructions must be so: it came from outside.
static bool is_sound(const struct mv_override_function *function)
{
    if (function->length < JUMP_BYTES || function->length > MV_OVERRIDE_CODE_MAX ||
        function->moved_length > MV_OVERRIDE_CODE_MAX)
        return false;
    if (function->indirect && !ros_space_module_word(function->original))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(function->end); i++)
        if (function->end[i] > function->moved_length ||
            (function->end[i] && function->displacement[i] + 4U > function->end[i]))
            return false;
    return true;
}

// Move the instructions to `to`. Returns false if a displacement does not reach from there.
static bool move(const struct mv_override_function *function, uint64_t at, uint8_t *code,
                 uint64_t to)
{
    memcpy(code, function->moved, function->moved_length);
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

static void put_slot(uint8_t *code, uint64_t to)
{
    memset(code, 0xcc, STUB_BYTES);
    code[0] = 0xff, code[1] = 0x25; // jmp *slot(%rip)
    rw_put32(code + 2, STUB_SLOT - 6);
    memcpy(code + STUB_SLOT, &to, sizeof(to));
}

// The stub of the function at `at`.
static bool put_function(uint8_t *code, uint64_t stub, uint64_t at,
                         const struct mv_override_function *function, uint64_t to)
{
    unsigned end = STUB_MOVED + function->moved_length;
    put_slot(code, to);
    if (!move(function, at, code + STUB_MOVED, stub + STUB_MOVED))
        return false;
    code[end] = JUMP;
    rw_put32(code + end + 1, (int64_t)(at + function->length) - (int64_t)(stub + end + JUMP_BYTES));
    return true;
}

// The stub behind that of a resolver, for its answers.
static void put_answer(uint8_t *code, uint64_t variable, uint64_t to)
{
    static const uint8_t answer[] = {
        0x48, 0x83, 0xec, 0x08,                // sub $8, %rsp
        0xe8, 0,    0,    0,    0,             // call the legacy resolver
        0x48, 0x83, 0xc4, 0x08,                // add $8, %rsp
        0x48, 0xa3, 0,    0,    0, 0, 0, 0, 0, // movabs %rax, variable
        0,                                     //
        0x48, 0x8d, 0x05, 0,    0, 0, 0,       // lea stub(%rip), %rax
        0xc3,                                  // ret
    };
    enum { CALL_END = STUB_ANSWER + 9, VARIABLE = STUB_ANSWER + 15, LEA_END = STUB_ANSWER + 30 };
    _Static_assert(STUB_ANSWER + sizeof(answer) <= STUB_SLOT, "a stub holds it all");
    put_slot(code, to);
    memcpy(code + STUB_ANSWER, answer, sizeof(answer));
    rw_put32(code + CALL_END - 4, STUB_MOVED - STUB_BYTES - CALL_END);
    memcpy(code + VARIABLE, &variable, sizeof(variable));
    rw_put32(code + LEA_END - 4, -LEA_END);
}

static uint64_t take_over(uint64_t at, const struct mv_override_function *function)
{
    uint8_t code[2 * STUB_BYTES], there[MV_OVERRIDE_CODE_MAX], jump[JUMP_BYTES] = {JUMP};
    unsigned length = function->length, stubs = function->indirect ? 2 : 1;
    if (!is_sound(function) || !may_be_changed(at, length) || ros_copy_in(there, at, length) ||
        memcmp(there, function->bytes, length) != 0)
        return 0;
    struct pool *pool = pool_near(at, stubs);
    if (!pool)
        return 0;
    uint64_t stub = pool->start + (uint64_t)pool->used * STUB_BYTES;
    uint64_t to = function->indirect ? stub + STUB_BYTES + STUB_ANSWER : function->wrapper;
    if (!put_function(code, stub, at, function, to))
        return 0;
    if (function->indirect)
        put_answer(code + STUB_BYTES, function->original, function->wrapper);
    rw_put32(jump + 1, (int64_t)stub - (int64_t)(at + JUMP_BYTES));

    // Other functions' stubs in the pool may be executing: it stays executable all the time.
    enum { ALL = PROT_READ | PROT_WRITE | PROT_EXEC, CODE = PROT_READ | PROT_EXEC };
    uint64_t size = (uint64_t)stubs * STUB_BYTES;
    if (rw_protect(stub, size, ALL))
        return 0;
    memcpy((void *)stub, code, size);
    rw_protect(stub, size, CODE); // without memory: left writable
    if (ros_space_allow_execute(stub, size) || rw_protect(at, JUMP_BYTES, ALL))
        return 0;
    pool->stub[pool->used] = (struct stub){
        .at = at, .after = at + length, .end = stub + STUB_MOVED + function->moved_length};
    if (function->indirect)
        pool->stub[pool->used + 1] = (struct stub){.chosen = function->original};
    __atomic_store_n(&pool->used, pool->used + stubs, __ATOMIC_RELEASE);
    memcpy((void *)at, jump, sizeof(jump));
    rw_protect(at, JUMP_BYTES, CODE);
    return stub + STUB_MOVED;
}

uint64_t rw_take_over(uint64_t at, const struct mv_override_function *function)
{
    rw_lock();
    ros_space_lock();
    uint64_t original = take_over(at, function);
    ros_space_unlock();
    rw_unlock();
    return original;
}

// Where a stub's function is as it was; 0: nobody has got to it yet.
static uint64_t legacy(const struct pool *pool, unsigned index)
{
    uint64_t chosen = pool->stub[index].chosen;
    if (!chosen)
        return pool->start + (uint64_t)index * STUB_BYTES + STUB_MOVED;
    return READ_ONCE(*ros_space_module_word(chosen));
}

// The stub of a function that `address` is in, or NULL.
static const struct stub *stub_of(uint64_t address)
{
    for (unsigned i = 0; i < taken.pools; i++) {
        const struct pool *pool = &taken.pool[i];
        uint64_t index = (address - pool->start) / STUB_BYTES;
        if (index < __atomic_load_n(&pool->used, __ATOMIC_ACQUIRE) && pool->stub[index].at)
            return &pool->stub[index];
    }
    return NULL;
}

uint64_t rw_function_program_rip(uint64_t rip)
{
    const struct stub *stub = stub_of(rip);
    if (stub && rip % STUB_BYTES == 0)
        return stub->at;
    return stub && rip == stub->end ? stub->after : rip;
}

uint64_t rw_function_resume_rip(uint64_t rip)
{
    uint8_t code[JUMP_BYTES];
    int32_t distance;
    if (!taken.pools || ros_copy_in(code, rip, sizeof(code)) || code[0] != JUMP)
        return rip;
    memcpy(&distance, code + 1, sizeof(distance));
    uint64_t to = rip + JUMP_BYTES + (uint64_t)(int64_t)distance;
    const struct stub *stub = stub_of(to);
    return stub && stub->at == rip && to % STUB_BYTES == 0 ? to : rip;
}

void rw_give_back(void)
{
    rw_lock();
    for (unsigned i = 0; i < taken.pools; i++) {
        const struct pool *pool = &taken.pool[i];
        if (rw_protect(pool->start, POOL_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC))
            continue;
        for (unsigned j = 0; j < pool->used; j++) {
            uint64_t slot = pool->start + (uint64_t)j * STUB_BYTES + STUB_SLOT,
                     to = legacy(pool, j);
            if (to)
                *(uint64_t *)slot = to;
        }
        rw_protect(pool->start, POOL_BYTES, PROT_READ | PROT_EXEC);
    }
    rw_unlock();
}
