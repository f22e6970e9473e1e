// The system call that only an HRT has: what the AeroKernel's interface needs of the ROS.

#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/mman.h>

#include "base/region.h"
#include "base/sys.h"
#include "rewrite/rewrite.h"
#include "ros/state.h"

static int64_t attach(struct ros_group *group, uint64_t version)
{
    struct hvm_state state;
    if (version > MV_AEROKERNEL_VERSION)
        return -EPROTONOSUPPORT;
    ros_read_state(group, &state, NULL);
    // The AeroKernel finds its data of a virtual CPU through the GS base.
    if (!ros.hvm.limits.fsgsbase || state.gs_base)
        return -EOPNOTSUPP;
    ros_space_attach();
    return 0;
}

static bool is_range(uint64_t start, uint64_t size)
{
    return start % PAGE_SIZE == 0 && size % PAGE_SIZE == 0 && size &&
           range_is_lower_half(start, size) && !mv_region_touches(start, size);
}

// Linux tells KVM of every change of a mapping. To allow execution and forbid it again is one that
// nobody can see: what the HRT may execute its own page tables say.
static int64_t drop(uint64_t start, uint64_t size)
{
    ros_space_lock();
    long err = sys3(__NR_mprotect, start, size, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (!err)
        err = sys3(__NR_mprotect, start, size, PROT_READ | PROT_WRITE);
    ros_space_unlock();
    return err;
}

// Back to where the thread entered the HRT, natively.
static int64_t leave(struct ros_group *group)
{
    if (!group->entered)
        return -EINVAL;
    // The exit of the request has to be finished before the virtual CPU serves another thread.
    hvm_vcpu_finish_exit(&group->vcpu);
    hvm_unkick(&group->vcpu);
    mv_context_restore(&group->native_context, 1);
}

// A function of the program's, on its own stack and with its own thread-local storage, but
// natively.
static int64_t call_natively(struct ros_group *group, uint64_t fn, uint64_t arg)
{
    enum { RED_ZONE = 128 };
    uint64_t fs, gs;
    if (!group->entered)
        return -EINVAL;
    struct hvm_state state;
    ros_read_state(group, &state, NULL);
    sys2(__NR_arch_prctl, ARCH_GET_FS, &fs);
    sys2(__NR_arch_prctl, ARCH_GET_GS, &gs);
    sys2(__NR_arch_prctl, ARCH_SET_FS, state.fs_base);
    sys2(__NR_arch_prctl, ARCH_SET_GS, state.gs_base);
    group->calls_natively = true;
    int64_t result = ros_call_far_asm(fn, arg, ALIGN_DOWN(group->frame->rsp - RED_ZONE, 16));
    group->calls_natively = false;
    sys2(__NR_arch_prctl, ARCH_SET_FS, fs);
    sys2(__NR_arch_prctl, ARCH_SET_GS, gs);
    return result;
}

int64_t ros_sys_aerokernel(struct ros_group *group, uint64_t nr, struct ros_args *args)
{
    (void)nr;
    uint64_t start = args->a[1], size = args->a[2];
    switch (args->a[0]) {
    case MV_AEROKERNEL_ATTACH:
        return attach(group, args->a[1]);
    case MV_AEROKERNEL_PREPARE:
        return is_range(start, size) ? ros_space_split(start, size) : -EINVAL;
    case MV_AEROKERNEL_DROP:
        return is_range(start, size) ? drop(start, size) : -EINVAL;
    case MV_AEROKERNEL_RELEASE:
        return is_range(start, size) ? ros_release(group, start, size, args->a[3]) : -EINVAL;
    case MV_AEROKERNEL_LEAVE:
        return leave(group);
    case MV_AEROKERNEL_NATIVE:
        return call_natively(group, start, size);
    case MV_AEROKERNEL_HOSTED:
        return 0;
    case MV_AEROKERNEL_HOT:
        if (rw_may_rewrite(start))
            rw_rewrite(start);
        return rw_may_rewrite(start) ? 0 : -EPERM;
    default:
        return -EINVAL;
    }
}
