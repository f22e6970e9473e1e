// The core within a process that it has not started: native threads enter the HRT and leave it.

#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>

#include "abi/attach.h"
#include "base/fds.h"
#include "base/string.h"
#include "base/sys.h"
#include "main/main.h"
#include "ros/ros.h"
#include "ros/signal.h"

// Of all HRT threads: what instructions raise goes to the library's handler. What else the process
// does with signals concerns its native threads only.
static struct ros_sighand sighand = {.users = 1};

static struct mv_config config;

static int enter(uint64_t fn, uint64_t arg)
{
    uint64_t fs_base = 0, gs_base = 0;
    struct ros_group *group;
    stack_t native_stack;
    int err = (int)ros_cpus_confine(0, &config.hrt_cpus);
    if (!err)
        err = ros_group_acquire(&group);
    if (err)
        return err;
    sys2(__NR_arch_prctl, ARCH_GET_FS, &fs_base);
    sys2(__NR_arch_prctl, ARCH_GET_GS, &gs_base);
    sys2(__NR_sigaltstack, 0, &native_stack);
    __atomic_add_fetch(&sighand.users, 1, __ATOMIC_RELAXED);
    ros_group_begin_native(group, &sighand, fs_base, gs_base);
    if (!mv_context_save(&group->native_context)) {
        *group->frame = (struct mv_frame){.rip = fn,
                                          .rdi = arg,
                                          // As if called: the return address is never used.
                                          .rsp = ALIGN_DOWN(group->native_context.rsp, 16) - 136,
                                          .rflags = AK_FLAGS_FIXED,
                                          .ring = ros.ring};
        mv_call_on_stack((void (*)(void *))ros_loop, group, (uint64_t)group + GROUP_BLOCK);
    }
    // What was executed natively for the HRT left its bases behind (ros_replicate()).
    sys2(__NR_arch_prctl, ARCH_SET_FS, fs_base);
    sys2(__NR_arch_prctl, ARCH_SET_GS, gs_base);
    sys2(__NR_sigaltstack, &native_stack, 0);
    ros_group_release(group);
    return 0;
}

static void give_up_vm(void)
{
    for (unsigned i = 0; i < ros_groups_count(); i++)
        hvm_vcpu_close(&ros_group_at(i)->vcpu);
    hvm_close(&ros.hvm);
}

static int reboot(void)
{
    give_up_vm();
    int err = hvm_create(&ros.hvm);
    return err ? err : ros_space_revive();
}

static void forked(void)
{
    give_up_vm();
    mv_fd_close(&ros.hvm.kvm_fd);
}

static int detach(void)
{
    forked();
    return ros_signal_detach();
}

// Read the configuration. Returns NULL, or in words what is wrong with it.
static const char *check(const char *text)
{
    static char wrong[MV_KEYS_WRONG];
    if (!mv_config_parse(text, &config, wrong))
        return wrong;
    if (config.override_fd >= 0)
        return "override: for whole programs only";
    return ros_cpus_usable(&config.hrt_cpus) ? NULL : "hrtcpus: CPUs that may be used";
}

int mv_attach(const struct mv_attach_request *request, struct mv_attach_answer *answer,
              const char **what)
{
    struct ros_group *first;
    struct mv_costs costs;
    *what = check(request->config);
    answer->wrong_config = *what != NULL;
    if (*what)
        return -EINVAL;
    ros.attached = true;
    ros.exe_by_kernel = true;
    // Pollers would act with rights that the process may have given up meanwhile.
    config.channel.mode = ROS_CHANNEL_ASYNC;
    for (int sig = 1; sig <= ROS_SIGNALS; sig++)
        if (SIGBIT(sig) & ROS_SYNC_SIGNALS)
            sighand.action[sig] = (struct ros_sigaction){
                .handler = request->fault_handler,
                .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER_FLAG,
                .restorer = request->restorer,
            };
    int err = mv_make_hvm(&config, &first, what, &costs);
    if (err) {
        if (ros.hvm.vm_fd >= 0)
            give_up_vm();
        mv_fd_close(&ros.hvm.kvm_fd);
        return err;
    }
    __atomic_add_fetch(&sighand.users, 1, __ATOMIC_RELAXED);
    first->sighand = &sighand;
    ros_group_release(first);
    ros_signal_attach();
    answer->ring = ros.ring;
    answer->enter = enter;
    answer->reboot = reboot;
    answer->detach = detach;
    answer->forked = forked;
    return 0;
}
