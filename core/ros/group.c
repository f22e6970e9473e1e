// Execution groups: their memory, their virtual CPUs, the pool that threads come from.

#include <asm/errno.h>
#include <linux/mman.h>

#include "aerokernel/cpu.h"
#include "aerokernel/image.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "ros/channel.h"
#include "ros/debug.h"
#include "ros/signal.h"
#include "ros/trace.h"

_Static_assert(offsetof(struct ros_group, signal_pending) == 0, "asm.S");
_Static_assert(offsetof(struct ros_group, debug_pending) == 4, "asm.S");
_Static_assert(offsetof(struct ros_group, restart_rax) == 16, "asm.S");
_Static_assert(sizeof(struct ros_group) <= GROUP_ALTSTACK, "the group fits below its stacks");
_Static_assert(offsetof(struct mv_frame, rax) == MV_FRAME_RAX, "frame.h");
_Static_assert(offsetof(struct mv_frame, rip) == MV_FRAME_RIP, "frame.h");
_Static_assert(offsetof(struct mv_frame, rsp) == MV_FRAME_RSP, "frame.h");
_Static_assert(offsetof(struct mv_frame, ring) == MV_FRAME_RING, "frame.h");
_Static_assert(offsetof(struct mv_frame, ring) == MV_FRAME_STATE_BYTES, "frame.h");
_Static_assert(offsetof(struct mv_trap, error) == MV_TRAP_ERROR, "frame.h");
_Static_assert(offsetof(struct mv_trap, cr2) == MV_TRAP_CR2, "frame.h");
_Static_assert(offsetof(struct mv_trap, word) == MV_TRAP_ACTIVE, "frame.h");
_Static_assert(offsetof(struct mv_trap, next) == MV_TRAP_NEXT, "frame.h");
_Static_assert(offsetof(struct mv_trap, attention) == MV_TRAP_ATTENTION, "frame.h");
_Static_assert(offsetof(struct mv_trap, site) == MV_TRAP_SITE, "frame.h");
_Static_assert(AK_TRAP_OFFSET + sizeof(struct mv_trap) <= AK_SLOT_OFFSET, "frame.h");
_Static_assert(AK_SIGNALS_OFFSET + sizeof(struct mv_signals) <= AK_IDENTITY_OFFSET, "frame.h");
_Static_assert(offsetof(struct mv_signals, xfeatures) == MV_SIGNALS_XFEATURES, "frame.h");
_Static_assert(offsetof(struct ak_image, on_fault) == AK_IMAGE_ON_FAULT, "frame.h");
_Static_assert(offsetof(struct ak_image, on_call) == AK_IMAGE_ON_CALL, "frame.h");
_Static_assert(offsetof(struct ak_image, initial_xsave) == AK_IMAGE_INITIAL_XSAVE, "frame.h");
_Static_assert(sizeof(struct kvm_xsave) == HVM_XSAVE_BYTES, "hvm.h");

enum { GROUPS_MAX = 1024 };
enum { GROUP_FREE, GROUP_BUSY, GROUP_ENDING }; // of ros_group.busy

// Groups are never freed, since a KVM never frees a virtual CPU; group i has virtual CPU i.
static struct {
    struct mv_lock lock;
    unsigned count;
    struct ros_group *groups[GROUPS_MAX];
} pool;

void ros_groups_lock(void)
{
    mv_lock(&pool.lock);
}

void ros_groups_unlock(void)
{
    mv_unlock(&pool.lock);
}

unsigned ros_groups_count(void)
{
    return __atomic_load_n(&pool.count, __ATOMIC_ACQUIRE);
}

struct ros_group *ros_group_at(unsigned index)
{
    return pool.groups[index];
}

unsigned ros_groups_alive(void)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < pool.count; i++)
        alive += READ_ONCE(pool.groups[i]->busy) != 0;
    return alive;
}

int ros_group_make_block(struct ros_group **ret)
{
    uint64_t block = mv_region_reserve(GROUP_BLOCK + HVM_RUN_BYTES, GROUP_BLOCK);
    if (!block)
        return -ENOMEM;
    int err = mv_region_commit(block, GROUP_STACK_GUARD);
    if (!err)
        err = mv_region_commit(block + GROUP_STACK, GROUP_BLOCK - GROUP_STACK);
    if (err)
        return err;
    *ret = (struct ros_group *)block;
    (*ret)->vcpu.fd = -1;
    (*ret)->vcpu.run = (struct kvm_run *)(block + GROUP_BLOCK);
    return 0;
}

// Linux tells by a segment's limit, to whoever asks.
uint32_t ros_cpu_node(void)
{
    uint32_t limit;
    __asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"((uint32_t)AK_CPU_NODE) : "cc");
    return limit;
}

void ros_group_follow_cpu(struct ros_group *group)
{
    uint32_t now = ros_cpu_node();
    if (now == group->cpu_node)
        return;
    group->cpu_node = now;
    ak_tables_set_cpu(group->tables_page, now);
    hvm_vcpu_set_cpu_node(&group->vcpu, now);
}

static uint64_t syscall_entry(const struct ros_group *group)
{
    const char *entry = ak_entries_for(ros.ring, ros.interpreted).syscall;
    return group->window + (uint64_t)(entry - ak_entry_page);
}

int ros_group_set_ring(struct ros_group *group)
{
    group->frame->ring = ros.ring;
    return hvm_vcpu_set_entry(&group->vcpu, syscall_entry(group));
}

static int make_vcpu(struct ros_group *group)
{
    group->cpu_node = ros_cpu_node();
    ak_tables_init(group->tables_page, group->window, group->cpu_node);
    ak_return_init(group->tables_page, group->window);
    group->frame->ring = ros.ring;
    struct hvm_boot boot = {
        .ring = ros.ring,
        .cr3 = ros_space_root(),
        .window = group->window,
        .idt = AK_IDT_PAGE,
        .entry = syscall_entry(group),
        .cpu_node = group->cpu_node,
    };
    return hvm_vcpu_create(&ros.hvm, &group->vcpu, &boot);
}

static int make_group(struct ros_group **ret)
{
    struct ros_group *group;
    if (pool.count >= MIN((unsigned)GROUPS_MAX, ros.hvm.limits.max_vcpus))
        return -EAGAIN;
    int err = ros_group_make_block(&group);
    if (err)
        return err;
    group->vcpu.id = pool.count;
    err = ros_space_make_window(group->vcpu.id, group);
    if (err)
        return err;
    pool.groups[pool.count] = group;
    __atomic_store_n(&pool.count, pool.count + 1, __ATOMIC_RELEASE);
    WRITE_ONCE(ros_space_control()->machine.cpus, pool.count);
    if (ros_stats())
        ros_stats_add(&ros_stats()->vcpus, 1);
    *ret = group;
    return 0;
}

int ros_group_acquire(struct ros_group **ret)
{
    struct ros_group *group = NULL;
    int err = 0;
    mv_lock(&pool.lock);
    for (unsigned i = 0; i < pool.count && !group; i++)
        if (__atomic_load_n(&pool.groups[i]->busy, __ATOMIC_ACQUIRE) == GROUP_FREE)
            group = pool.groups[i];
    if (!group)
        err = make_group(&group);
    if (!err && group->vcpu.fd < 0)
        err = make_vcpu(group);
    if (!err) {
        group->busy = GROUP_BUSY;
        group->entered = false;
        group->signals->deferred = 0;
        memset(group->cpu_page, 0, PAGE_SIZE); // the AeroKernel's data of a thread that has ended
        if (ros_stats()) {
            ros_stats_add(&ros_stats()->groups, 1);
            ros_stats_groups(ros_groups_alive());
        }
        *ret = group;
    }
    mv_unlock(&pool.lock);
    return err;
}

void ros_group_begin_native(struct ros_group *group, struct ros_sighand *sighand, uint64_t fs_base,
                            uint64_t gs_base)
{
    group->sighand = sighand;
    group->signal_pending = 0;
    group->has_temporary_mask = false;
    group->replicating = false;
    group->pending_sync = 0;
    group->trap->word = (struct mv_trap_word){0};
    group->trap->held = 0;
    group->signals->pending_sync = 0;
    group->private_files = false;
    group->altstack = (stack_t){.ss_flags = SS_DISABLE};
    group->fs_base = fs_base;
    group->gs_base = gs_base;
    group->resume = ROS_LOAD;
    group->entered = true;
    ros_channel_begin(group, NULL, false);
    ros_reset_xsave(group);
    ros_signal_thread_init(group);
    ros_signal_set_mask(group, ros_signal_mask(group));
    ros_signal_publish(group);
    ros_override_identify(group);
    ros_robust_begin(group, 0);
}

void ros_group_release(struct ros_group *group)
{
    ros_debug_end(group);
    ros_sighand_put(group->sighand);
    __atomic_store_n(&group->busy, 0, __ATOMIC_RELEASE);
}

// Mark the group as ending. Returns true if no other of its process goes on.
static bool is_last(struct ros_group *group)
{
    bool last = true;
    mv_lock(&pool.lock);
    group->busy = GROUP_ENDING;
    for (unsigned i = 0; i < pool.count; i++) {
        const struct ros_group *other = pool.groups[i];
        last = last && !(READ_ONCE(other->busy) == GROUP_BUSY && other->id.pid == group->id.pid);
    }
    mv_unlock(&pool.lock);
    return last;
}

void ros_group_exit(struct ros_group *group, int status)
{
    // KVM may keep a worker thread in the process, which would outlive the program's last thread.
    if (is_last(group) && !ros.attached) {
        ros_debug_exit((uint32_t)(status & 0xff) << 8);
        sys_exit_group(status);
    }
    ros_trace(&(struct ros_event){.kind = MV_TRACE_GROUP_END, .result = status}, rdtsc());
    // From here no signal may run on the group's stacks any more.
    ros_sigset all = ~0ULL;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all));
    // What a poller has passed on to this thread is for another one now.
    ros_signal_return_passed_on(group);
    // The exit of the request has to be finished before the virtual CPU serves another thread.
    hvm_vcpu_finish_exit(&group->vcpu);
    hvm_unkick(&group->vcpu);
    ros_debug_end(group);
    ros_sighand_put(group->sighand);
    ros_exit_asm(&group->busy, status);
}

bool ros_group_runs(const struct ros_group *group)
{
    return READ_ONCE(group->busy) == GROUP_BUSY;
}

void ros_groups_after_fork(struct ros_group *self)
{
    for (unsigned i = 0; i < pool.count; i++) {
        struct ros_group *group = pool.groups[i];
        hvm_vcpu_close(&group->vcpu);
        if (group == self)
            continue;
        group->busy = GROUP_FREE;
        memset(group->cpu_page, 0, PAGE_SIZE);
    }
}

int ros_group_revive(struct ros_group *group)
{
    return make_vcpu(group);
}
