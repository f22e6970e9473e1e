// System calls that change the address space.
//
// Linux does the work and stays the authority. Here the core's own region is kept out of reach,
// and the execute permission of the HRT's page tables follows: it is taken away before Linux
// changes the mapping, so that the shoot-down of Linux's MMU notifiers also carries this change,
// and given after Linux has agreed. So what is not mapped is neither executable nor guarded. Only
// shmdt does not say what it unmaps; after one, this is made true when memory is mapped. What the
// program has claimed goes when Linux has agreed, before anybody else can map memory there. Ranges
// that leave the lower half go straight to Linux, which refuses them: the page tables, which also
// hold the AeroKernel's own pages, must not hear of them.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/ipc.h>
#include <linux/mman.h>
#include <linux/shm.h>

#include "base/region.h"
#include "rewrite/maps.h"
#include "rewrite/rewrite.h"
#include "ros/ros.h"

// Highest hint that does not ask for addresses beyond the HRT's 4-level paging.
#define HINT_END (1ULL << 47)

// Before Linux changes what is mapped in a range: nothing is executable there, nothing guarded.
// Returns 0 or -ENOMEM.
static int forget(uint64_t start, uint64_t size)
{
    ros_populate_forget(start, size);
    ros_space_forbid_execute(start, size);
    return ros_space_unguard(start, size);
}

static bool agreed(int64_t result)
{
    return result != ROS_INTERRUPTED && !sys_failed((uint64_t)result);
}

struct range {
    uint64_t start, end;
};

static bool guard_as_mapped(const struct rw_mapping *mapping, void *argument)
{
    const struct range *range = argument;
    uint64_t start = MAX(range->start, mapping->start), end = MIN(range->end, mapping->end);
    if (start < end && !mapping->writable)
        ros_space_guard(start, end - start, !mapping->readable && !mapping->executable);
    return mapping->end >= range->end;
}

// With the lock held, when Linux has answered about a range that was forgotten. If it has refused,
// some of it may have changed all the same; what it forbids is guarded again, since handlers of the
// AeroKernel's are asked about nothing else.
static void settle(int64_t result, uint64_t start, uint64_t size)
{
    struct range range = {ALIGN_DOWN(start, PAGE_SIZE), ALIGN_UP(start + size, PAGE_SIZE)};
    if (agreed(result))
        ros_space_unclaim(start, size);
    else if (ros_space_is_attached())
        rw_walk_mappings(guard_as_mapped, &range);
}

// With the lock held, when Linux has mapped memory where it liked: what a shmdt may have left
// behind there goes, before anybody can know the address. Only a split can fail, for want of
// memory.
static void clear_leftovers(int64_t start, uint64_t size)
{
    if (!ros_space_has_leftovers() || !agreed(start))
        return;
    forget((uint64_t)start, size);
    ros_space_unclaim((uint64_t)start, size);
}

// True for memory that nothing stands behind, which the program writes to before it reads it. What
// asks to be backed by nothing is a reservation, and what grows or is a stack is used from its end.
static bool is_plain(uint64_t prot, uint64_t flags)
{
    enum {
        KINDS = MAP_TYPE | MAP_ANONYMOUS,
        OTHERS = MAP_NORESERVE | MAP_GROWSDOWN | MAP_STACK | MAP_HUGETLB,
    };
    return prot == (PROT_READ | PROT_WRITE) &&
           (flags & (KINDS | OTHERS)) == (MAP_PRIVATE | MAP_ANONYMOUS);
}

// True for what dynamic loaders make of a data segment.
static bool is_data(uint64_t prot, uint64_t flags)
{
    enum { KINDS = MAP_TYPE | MAP_ANONYMOUS | MAP_FIXED };
    return prot == (PROT_READ | PROT_WRITE) && (flags & KINDS) == (MAP_PRIVATE | MAP_FIXED);
}

int64_t ros_sys_mmap(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    uint64_t address = args->a[0], size = args->a[1], prot = args->a[2], flags = args->a[3];
    bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    if (fixed && mv_region_touches(address, size))
        return flags & MAP_FIXED_NOREPLACE ? -EEXIST : -ENOMEM;
    if (address >= HINT_END) {
        if (fixed)
            return -ENOMEM;
        args->a[0] = 0;
    }
    if (!range_is_lower_half(fixed ? address : 0, size))
        return ros_forward(group, nr, args);
    if (!fixed && !(prot & PROT_EXEC) && !ros_space_is_attached()) {
        int64_t start = ros_forward(group, nr, args);
        if (ros_space_has_leftovers()) {
            ros_space_lock();
            clear_leftovers(start, size);
            ros_space_unlock();
        }
        if (agreed(start) && is_plain(prot, flags))
            ros_populate(group, nr, (uint64_t)start, (uint64_t)start + size);
        return start;
    }
    ros_space_lock();
    int64_t result = flags & MAP_FIXED ? forget(address, size) : 0;
    if (!result)
        result = ros_forward(group, nr, args);
    clear_leftovers(result, size);
    if (flags & MAP_FIXED)
        settle(result, address, size);
    if ((prot & PROT_EXEC) && agreed(result))
        ros_space_allow_execute((uint64_t)result, size); // else it is given on the first fetch
    ros_space_unlock();
    if ((prot & PROT_EXEC) && !(flags & MAP_ANONYMOUS) && agreed(result))
        ros_override_mapped((uint64_t)result, size, (int)args->a[4], args->a[5]);
    if (agreed(result) && is_data(prot, flags))
        ros_populate_data(group, (uint64_t)result, size);
    return result;
}

int64_t ros_sys_munmap(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (mv_region_touches(args->a[0], args->a[1]))
        return -EINVAL;
    if (!range_is_lower_half(args->a[0], args->a[1]))
        return ros_forward(group, nr, args);
    ros_space_lock();
    int64_t result = forget(args->a[0], args->a[1]);
    if (!result)
        result = ros_forward(group, nr, args);
    settle(result, args->a[0], args->a[1]);
    ros_space_unlock();
    return result;
}

// True if faults are part of what the program does.
static bool expects_faults(const struct ros_group *group)
{
    if (ros.attached) // native threads change mappings, too, and nobody tells us
        return false;
    return READ_ONCE(group->sighand->action[SIGSEGV].handler) > HANDLER_IGNORE ||
           ros_space_is_attached();
}

// With the lock held, when Linux has protected a range: what it forbids the HRT's tables forbid,
// too.
static void guard(const struct ros_group *group, uint64_t start, uint64_t size, uint64_t prot)
{
    if (!(prot & PROT_WRITE) && expects_faults(group))
        ros_space_guard(start, size, prot == PROT_NONE);
}

int64_t ros_sys_mprotect(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    uint64_t start = args->a[0], size = args->a[1];
    if (mv_region_touches(start, size))
        return -ENOMEM;
    if (!range_is_lower_half(start, size))
        return ros_forward(group, nr, args);
    uint64_t prot = args->a[2];
    bool code = prot == (PROT_READ | PROT_EXEC);
    if (!code) {
        rw_lock();
        rw_restore(start, size);
    }
    ros_space_lock();
    int64_t result = ros_space_unguard(start, size);
    if (!(prot & PROT_EXEC))
        ros_space_forbid_execute(start, size);
    if (!result)
        result = ros_forward(group, nr, args);
    settle(result, start, size);
    if ((prot & PROT_EXEC) && result == 0)
        ros_space_allow_execute(start, size);
    if (result == 0)
        guard(group, start, size, prot);
    ros_space_unlock();
    if (!code)
        rw_unlock();
    return result;
}

// Linux forbids first, so that nothing is allowed in between.
int64_t ros_release(const struct ros_group *group, uint64_t start, uint64_t size, uint64_t prot)
{
    if (prot & ~(uint64_t)(PROT_READ | PROT_WRITE))
        return -EINVAL;
    ros_space_lock();
    int64_t result = sys3(__NR_mprotect, start, size, prot);
    if (!result)
        ros_space_unclaim(start, size);
    if (result == 0)
        guard(group, start, size, prot);
    ros_space_unlock();
    return result;
}

int64_t ros_sys_mremap(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    uint64_t from = args->a[0], old_size = args->a[1], new_size = args->a[2], flags = args->a[3];
    bool fixed = flags & MREMAP_FIXED;
    if (mv_region_touches(from, old_size) || (fixed && mv_region_touches(args->a[4], new_size)))
        return -EINVAL;
    if (!range_is_lower_half(from, old_size) ||
        (fixed && !range_is_lower_half(args->a[4], new_size)) || !range_is_lower_half(0, new_size))
        return ros_forward(group, nr, args);
    rw_lock();
    rw_restore(from, old_size); // jumps to stubs are relative
    ros_space_lock();
    bool executable = ros_space_executable(from);
    int64_t result = forget(from, old_size);
    if (fixed && !result)
        result = forget(args->a[4], new_size);
    if (!result)
        result = ros_forward(group, nr, args);
    bool moved = agreed(result);
    clear_leftovers(result, new_size);
    settle(result, from, old_size);
    if (fixed)
        settle(result, args->a[4], new_size);
    if (executable)
        ros_space_allow_execute(moved ? (uint64_t)result : from, moved ? new_size : old_size);
    ros_space_unlock();
    rw_unlock();
    return result;
}

// The heap's pages, too, may have been protected before the break moves below them.
int64_t ros_sys_brk(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    uint64_t to = args->a[0];
    if (!to)
        return ros_forward(group, nr, args);
    ros_space_lock();
    uint64_t now = (uint64_t)sys1(__NR_brk, 0);
    int64_t result = to < now ? forget(to, now - to) : 0;
    result = result ? (int64_t)now : ros_forward(group, nr, args);
    if (result > (int64_t)now)
        clear_leftovers((int64_t)now, (uint64_t)result - now);
    if (to < now)
        settle(result == (int64_t)now ? -ENOMEM : result, to, now - to);
    ros_space_unlock();
    if (result > (int64_t)now)
        ros_populate(group, nr, now, (uint64_t)result);
    return result;
}

int64_t ros_sys_shmat(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    struct shmid64_ds about;
    uint64_t address = ALIGN_DOWN(args->a[1], PAGE_SIZE);
    long err = sys3(__NR_shmctl, args->a[0], IPC_STAT, &about);
    if (err < 0)
        return err; // shmat's error, too
    uint64_t size = ALIGN_UP(about.shm_segsz, PAGE_SIZE);
    if (mv_region_touches(address, size))
        return -EINVAL;
    if (!range_is_lower_half(address, size))
        return ros_forward(group, nr, args);
    ros_space_lock();
    int64_t result = address && (args->a[2] & SHM_REMAP) ? forget(address, size) : 0;
    if (!result)
        result = ros_forward(group, nr, args);
    clear_leftovers(result, size);
    if (address && (args->a[2] & SHM_REMAP))
        settle(result, address, size);
    ros_space_unlock();
    return result;
}

int64_t ros_sys_shmdt(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_space_expect_leftovers();
    return ros_forward(group, nr, args);
}

// Calls on a range that only have to leave the core's region alone.
int64_t ros_sys_range(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    if (mv_region_touches(args->a[0], args->a[1]))
        return -ENOMEM;
    return ros_forward(group, nr, args);
}

// Who answers for memory that is missing wants to see every fault that the program would have.
int64_t ros_sys_userfaultfd(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    ros_populate_end();
    return ros_forward(group, nr, args);
}

// The HRT's page tables have no protection keys; CPUID says so, too.
int64_t ros_sys_pkey_alloc(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)group, (void)nr, (void)args;
    return -ENOSPC;
}
