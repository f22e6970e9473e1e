// A fat binary has called: make an HRT of the process as it is. Nothing is loaded; the program goes
// on in the virtual machine where it stands. Until everything that can fail is done nothing of
// the process is changed, so that it can go on natively as well.

#include <asm/prctl.h>
#include <linux/sched.h>

#include "base/fds.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "main/main.h"
#include "rewrite/maps.h"
#include "ros/crash.h"
#include "ros/ros.h"
#include "ros/signal.h"

_Static_assert(offsetof(struct mv_adoption, rsp) == MV_ADOPTION_RSP, "start.S");

// What start.S has pushed, and the return address behind it.
struct pushed {
    uint64_t r15, r14, r13, r12, rbx, rbp, rip;
};

void mv_adopt_refuse(struct mv_adoption *adoption, const char *what, int err)
{
    mv_format(adoption->what, sizeof(adoption->what), "%s: %s", what, mv_strerror(err));
    mv_adopt_return(adoption, err);
}

_Noreturn static void refuse(struct mv_adoption *adoption, const char *what, int err)
{
    mv_fds_close();
    mv_adopt_refuse(adoption, what, err);
}

// The C library has registered its area for restartable sequences, which an HRT has none of. Only
// Linux knows where it is, and takes it back only from who names it: glibc has it near the thread
// pointer. Not finding it does no harm but to programs that use such sequences.
static void unregister_rseq(uint64_t fs_base)
{
    enum { SIGNATURE = 0x53053053, BYTES = 32, UNREGISTER = 1, REACH = 4096 };
    if (!fs_base)
        return;
    for (uint64_t i = 0; i < 2 * REACH / BYTES; i++) { // first what is above, then what is below
        uint64_t offset = i * BYTES < REACH ? i * BYTES : REACH - (i + 1) * BYTES;
        long err =
            sys4(__NR_rseq, ALIGN_DOWN(fs_base + offset, BYTES), BYTES, UNREGISTER, SIGNATURE);
        if (err != -EINVAL)
            return;
    }
}

// The extended state of this thread, which the core leaves alone.
static void save_extended_state(struct ros_group *group)
{
    enum { X87_AND_SSE = 3 };
    uint64_t mask = ros.hvm.limits.xcr0;
    uint64_t *in_use = (uint64_t *)(group->xsave + 512);
    if (!mask)
        return;
    memset(in_use, 0, 64);
    __asm__ volatile("xsave64 (%0)"
                     :
                     : "r"(group->xsave), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                     : "memory");
    *in_use |= X87_AND_SSE; // a hardware KVM takes MXCSR from nowhere else
    group->xsave_place = XSAVE_IN_GROUP;
}

// Allow the execution of code that is there, as if it had been mapped now. The rest is merged when
// it is touched: some of it may be the reservations of a sanitizer, too large to be merged at all.
static bool merge_code(const struct rw_mapping *mapping, void *unused)
{
    (void)unused;
    uint64_t size = mapping->end - mapping->start;
    if (mapping->executable && range_is_lower_half(mapping->start, size) &&
        !mv_region_touches(mapping->start, size))
        ros_space_merge_range(mapping->start, size, true);
    return false;
}

void mv_adopt(void *argument)
{
    static struct mv_config config;
    struct mv_adoption *adoption = argument;
    const struct pushed *pushed = (const struct pushed *)adoption->rsp;
    struct ros_group *group;
    struct mv_costs costs;
    const char *what = "the process";
    uint64_t begin = rdtsc();
    if (adoption->version != MV_FAT_VERSION)
        refuse(adoption, "the core of another version", -EPROTONOSUPPORT);
    if (adoption->attach) {
        int failed = mv_attach(adoption->attach, adoption->answer, &what);
        if (failed)
            refuse(adoption, what, failed);
        mv_adopt_return(adoption, 0);
    }
    // Without effect but that Linux checks it.
    if (sys1(__NR_unshare, CLONE_VM))
        refuse(adoption, "a process with several threads", -EBUSY);
    char wrong[MV_KEYS_WRONG];
    if (!mv_config_parse("quiet=1", &config, wrong))
        refuse(adoption, wrong, -EINVAL);
    int err =
        adoption->modules_size ? ros_override_take(adoption->modules, adoption->modules_size) : 0;
    if (err)
        refuse(adoption, "override modules", err);
    err = mv_make_hvm(&config, &group, &what, &costs);
    if (err)
        refuse(adoption, what, err);
    group->sighand = ros_sighand_copy(NULL);
    if (!group->sighand)
        refuse(adoption, "tables", -ENOMEM);
    err = ros_override_link(adoption->links, adoption->links_count);
    if (err)
        refuse(adoption, "override modules", err);

    static const char nothing[] = "";
    ros.core_path = ros.config = nothing;
    ros.quiet = true;
    ros.exe_by_kernel = true;
    ros_crash_init("off", nothing, adoption->envp);
    sys2(__NR_arch_prctl, ARCH_GET_FS, &group->fs_base);
    sys2(__NR_arch_prctl, ARCH_GET_GS, &group->gs_base);
    unregister_rseq(group->fs_base);
    save_extended_state(group);
    uint64_t ring = group->frame->ring, sync = group->frame->sync;
    *group->frame = (struct mv_frame){.r15 = pushed->r15,
                                      .r14 = pushed->r14,
                                      .r13 = pushed->r13,
                                      .r12 = pushed->r12,
                                      .rbx = pushed->rbx,
                                      .rbp = pushed->rbp,
                                      .rip = pushed->rip,
                                      .rsp = (uint64_t)(pushed + 1),
                                      .rflags = AK_FLAGS_FIXED,
                                      .ring = ring,
                                      .sync = sync};
    adoption->region = adoption->region_size = 0; // not the program's to unmap any more
    rw_walk_mappings(merge_code, NULL);
    ros_space_merge(adoption->rsp);
    mv_begin(group, begin);
}
