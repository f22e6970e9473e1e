#include <asm/unistd.h>
#include <linux/auxvec.h>
#include <linux/mman.h>
#include <linux/sysinfo.h>
#include <linux/time_types.h>

#include "aerokernel/cpu.h"
#include "base/fds.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "main/main.h"
#include "monitor/monitor.h"
#include "rewrite/rewrite.h"
#include "ros/channel.h"
#include "ros/crash.h"
#include "ros/debug.h"
#include "ros/profile.h"
#include "ros/signal.h"
#include "ros/trace.h"

struct ros_process ros;
static struct mv_arguments arguments;
static const char no_config[] = "";

enum { VDSO_BYTES = 2 * PAGE_SIZE };

// Bytes of the machine's memory.
static uint64_t ram(void)
{
    struct sysinfo info = {0};
    sys1(__NR_sysinfo, &info);
    return info.totalram * info.mem_unit;
}

// Bytes that override modules may keep of what the program has freed.
static uint64_t memory_high(const struct mv_config *config, uint64_t memory)
{
    enum { PART = 16 };
    return config->memory_high ? MIB(config->memory_high) : MAX(memory / PART, MIB(256));
}

int mv_make_hvm(const struct mv_config *config, struct ros_group **ret, const char **what,
                struct mv_costs *costs)
{
    *what = "/dev/kvm";
    int err = hvm_open(&ros.hvm, config->phys_bits);
    if (err)
        return err;
    // A debugger shows the program's code as it was, and steps through it. Before there is a
    // virtual machine: what has been made for one counts as a user of the process's memory, and
    // Linux then waits for all CPUs (13 ms were seen) where it need not for the only one.
    if (ros.hvm.limits.fsgsbase && config->channel.mode != ROS_CHANNEL_ASYNC && !ros_debug_on())
        rw_enable();
    *what = "virtual machine";
    err = hvm_create(&ros.hvm);
    if (err)
        return err;
    *what = "memory of the virtual machine";
    err = ros_space_init();
    if (err)
        return err;
    *what = "virtual CPU";
    ros.ring = 3;
    err = ros_group_acquire(ret);
    if (err)
        return err;
    *what = "virtual CPU at CPL 0";
    err = hvm_measure_kind(&(*ret)->vcpu, (*ret)->window + (uint64_t)(ak_probe - ak_entry_page),
                           &ros.interpreted, &costs->cpl0_cycles);
    if (err)
        return err;
    if (ros.interpreted && config->ring == 0) {
        *what = "ring 0 on a software KVM";
        return -EOPNOTSUPP;
    }
    ros.ring = ros.interpreted || config->ring == 3 ? 3 : 0;
    ros_space_set_ring();
    err = ros_group_set_ring(*ret);
    if (err)
        return err;
    *what = "the doorbell";
    // Even where nobody wants to know: what does not work is refused before the program is touched.
    err = ros_measure_exit(*ret, &costs->exit_cycles);
    if (err)
        return err;
    ros.hybrid = true;
    uint64_t memory = ram();
    ros_space_control()->machine.memory_limit = MIB(config->hrt_memory);
    ros_space_control()->machine.memory_high = memory_high(config, memory);
    ros_populate_init(!config->populate_off, memory);
    ros_channel_init(&config->channel, ros_space_control(), costs->exit_cycles,
                     hvm_tsc_hz(&(*ret)->vcpu));
    ros_profile_init(ros_space_control(), costs->exit_cycles, hvm_tsc_hz(&(*ret)->vcpu));
    ros_channel_begin(*ret, NULL, true);
    *what = "override modules";
    return ros_override_load();
}

const char *mv_hvm_advice(const struct mv_config *config)
{
    bool ring = ros.interpreted && config->ring == 0;
    return ring ? "use --ring=auto, or multiverse testbed" : "see multiverse doctor";
}

// Run the program as if we had never been there.
_Noreturn static void run_natively(const struct mv_config *config, const char *path, char **argv,
                                   const char *what, const char *why, const char *advice)
{
    if (config->require)
        mv_die(MV_EXIT_FAILURE, "run: %s: %s; %s", what, why, advice);
    if (!config->quiet)
        mv_error("run: %s: %s; running natively; %s", what, why, advice);
    long err = sys3(__NR_execve, path, argv, arguments.envp);
    bool missing = err == -ENOENT || err == -ENOTDIR;
    mv_die(missing ? MV_EXIT_NOT_FOUND : MV_EXIT_NOT_EXECUTABLE, "run: %s: %s; check the file",
           path, mv_strerror(err));
}

static void merge_image(const struct ros_group *group, const struct ldr_image *image)
{
    for (unsigned i = 0; i < image->segments; i++) {
        const struct ldr_segment *s = &image->segment[i];
        uint64_t start = ALIGN_DOWN(s->start, PAGE_SIZE);
        uint64_t end = ALIGN_UP(s->start + s->memory_size, PAGE_SIZE);
        ros_space_merge_range(start + image->bias, end - start, s->prot & PROT_EXEC);
        if (s->prot & PROT_WRITE)
            ros_populate_data(group, s->start + image->bias, s->file_size);
    }
}

static uint64_t auxv_value(uint64_t type)
{
    for (const uint64_t *a = arguments.auxv; a[0] != AT_NULL; a += 2)
        if (a[0] == type)
            return a[1];
    return 0;
}

// What every program touches at once; the rest is merged when it is touched.
static void merge_start(const struct ros_group *group, const struct mv_program *program,
                        uint64_t stack)
{
    merge_image(group, program->image);
    if (program->interp)
        merge_image(group, program->interp);
    ros_space_merge(stack);
}

void mv_begin(struct ros_group *group, uint64_t begin)
{
    uint64_t vdso = auxv_value(AT_SYSINFO_EHDR);
    ros_space_control()->machine.vdso = vdso;
    if (vdso)
        ros_space_merge_range(vdso, VDSO_BYTES, true);
    group->resume = ROS_LOAD;
    // No handler of the program's may run on the core's alternate stack.
    ros_sigset all = ~0ULL, mask = 0;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
    sys2(__NR_sigaltstack, 0, &group->altstack);
    if (!group->altstack.ss_size) // Linux says "disabled", but frames show that there was none
        group->altstack.ss_flags = 0;
    ros_signal_thread_init(group);
    ros_signal_init(group->sighand);
    ros_signal_set_mask(group, mask);
    ros_signal_publish(group);
    ros_override_identify(group);
    ros_profile_process();
    if (ros_stats()) {
        ros_stats()->ring = ros.ring;
        ros_stats()->hrt = 1;
        ros_stats()->vm_setup_cycles = rdtsc() - begin;
        ros_stats()->exit_cycles = ros_space_control()->machine.exit_cycles;
        ros_stats_add(&ros_stats()->processes, 1);
    }
    ros_watch_begin();
    mv_call_on_stack((void (*)(void *))ros_loop, group, (uint64_t)group + GROUP_BLOCK);
}

_Noreturn static void run(const struct mv_config *config, const char *path, char **argv)
{
    struct mv_program program;
    struct ros_group *group;
    const char *what, *why;
    struct mv_costs costs;
    uint64_t begin = rdtsc();
    if (ros_trace_open(config->stats_fd, config->trace_fd, config->profile_fd))
        mv_die(MV_EXIT_FAILURE, "run: files for counters, trace or profile: no memory; free some");
    if (config->debug_fd >= 0 && ros_debug_open(config->debug_fd, config->debug_socket))
        mv_die(MV_EXIT_FAILURE, "run: memory for --gdb: no memory; free some");
    if (config->off)
        run_natively(config, path, argv, "--hvm=off", "the virtual machine is switched off",
                     "leave it out for an HRT");
    int err = config->override_fd >= 0 ? ros_override_open(config->override_fd) : 0;
    if (err)
        mv_die(MV_EXIT_FAILURE, "run: --override: %s; is it of another version?", mv_strerror(err));
    err = mv_program_open(path, argv, &program, &why);
    if (err)
        run_natively(config, path, argv, program.file, why, "see multiverse doctor");
    err = mv_make_hvm(config, &group, &what, &costs);
    if (err)
        run_natively(config, path, argv, what, mv_strerror(err), mv_hvm_advice(config));

    if (!ros_cpus_usable(&config->channel.ros_cpus))
        mv_die(MV_EXIT_FAILURE,
               "run: --ros-cpus: none of these CPUs may be used here; give others");
    if (ros_cpus_confine(0, &config->hrt_cpus) < 0)
        mv_die(MV_EXIT_FAILURE,
               "run: --hrt-cpus: none of these CPUs may be used here; give others");

    mv_program_map(&program);
    uint64_t stack = mv_build_stack(&arguments, &program);
    if (program.image->stack_executable)
        sys3(__NR_mprotect, ALIGN_DOWN(stack, PAGE_SIZE), PAGE_SIZE,
             PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN);
    mv_program_announce(&arguments, &program, stack);
    merge_start(group, &program, stack);
    const struct ldr_image *first = program.interp ? program.interp : program.image;
    uint64_t ring = group->frame->ring, sync = group->frame->sync;
    *group->frame = (struct mv_frame){.rip = first->entry + first->bias,
                                      .rsp = stack,
                                      .rflags = AK_FLAGS_FIXED,
                                      .ring = ring,
                                      .sync = sync};
    group->sighand = ros_sighand_copy(NULL);
    if (!group->sighand)
        mv_die(MV_EXIT_FAILURE, "run: tables: no memory; free some");
    if (ros_debug_on())
        ros_debug_describe(stack);
    if (config->loadonly)
        sys_exit_group(0);
    mv_begin(group, begin);
}

static uint64_t monotonic_ns(void)
{
    struct __kernel_timespec now = {0};
    sys2(__NR_clock_gettime, 4 /* CLOCK_MONOTONIC_RAW */, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// The TSC's frequency in Hz, over 20 ms of the raw monotonic clock.
static uint64_t measure_tsc(void)
{
    uint64_t ns = monotonic_ns(), tsc = rdtsc(), now;
    do
        now = monotonic_ns();
    while (now - ns < 20000000);
    return (rdtsc() - tsc) * 1000000000 / (now - ns);
}

void mv_routes(void)
{
    for (unsigned nr = 0; nr < MV_ROUTES; nr++)
        if (ros_route(nr))
            mv_print(1, "%u=%s", nr, ros_route(nr));
    sys_exit_group(0);
}

void mv_probe(const struct mv_config *config)
{
    struct ros_group *group;
    const char *what;
    struct mv_costs costs;
    int err = mv_make_hvm(config, &group, &what, &costs);
    mv_print(1, "kvm=%d", err == 0);
    mv_print(1, "tsc_hz=%lu", (unsigned long)measure_tsc());
    if (err) {
        mv_print(1, "error=%s: %s", what, mv_strerror(err));
        sys_exit_group(0);
    }
    mv_print(1, "api_version=%u", ros.hvm.limits.api_version);
    mv_print(1, "slots=%u", ros.hvm.limits.slots);
    mv_print(1, "max_vcpus=%u", ros.hvm.limits.max_vcpus);
    mv_print(1, "phys_bits=%u", ros.hvm.limits.phys_bits);
    mv_print(1, "xcr0=0x%lx", (unsigned long)ros.hvm.limits.xcr0);
    mv_print(1, "cpl0_cycles=%lu", (unsigned long)costs.cpl0_cycles);
    mv_print(1, "exit_cycles=%lu", (unsigned long)costs.exit_cycles);
    mv_print(1, "kind=%s", ros.interpreted ? "software" : "hardware");
    mv_print(1, "ring=%u", ros.ring);
    sys_exit_group(0);
}

static void start(void *unused)
{
    (void)unused;
    static struct mv_config config;
    char **argv = arguments.argv;
    bool probe = arguments.argc >= 2 && strcmp(argv[1], "probe") == 0;
    bool latency = arguments.argc >= 2 && strcmp(argv[1], "latency") == 0;
    bool command = probe || latency;
    if (arguments.argc == 2 && strcmp(argv[1], "routes") == 0)
        mv_routes();
    if (arguments.argc == 5 && strcmp(argv[1], "crash") == 0)
        mv_report(argv + 2, arguments.envp);
    if (arguments.argc >= 5 && strcmp(argv[1], "kernel") == 0)
        mon_command(argv + 2);
    if (!command && arguments.argc < 4)
        mv_die(2, "core: usage: multiverse-core CONFIG PATH ARGV0 [ARGS...] | probe [CONFIG] | "
                  "latency [CONFIG] | kernel CONFIG PATH ARGV0 [ARGS...] | routes | "
                  "crash FD TO PYTHON");
    char wrong[MV_KEYS_WRONG];
    const char *text = command ? (arguments.argc > 2 ? argv[2] : no_config) : argv[1];
    if (!mv_config_parse(text, &config, wrong))
        mv_die(MV_EXIT_FAILURE,
               "core: %s; core and command line are of different versions, install again", wrong);
    if (probe)
        mv_probe(&config);
    if (latency)
        mv_latency(&config);
    static char core_path[4096];
    long n = sys3(__NR_readlink, "/proc/self/exe", core_path, sizeof(core_path) - 1);
    core_path[MAX(n, 0L)] = 0;
    ros.core_path = core_path;
    static char inherited[KIB(12)];
    mv_config_inherit(argv[1], inherited, sizeof(inherited));
    ros.config = inherited;
    ros.follow = config.follow && n > 0;
    ros.quiet = config.quiet;
    ros_crash_init(config.crash, config.python, arguments.envp);
    run(&config, argv[2], argv + 3);
}

void mv_arrive(struct mv_adoption *adoption, uint64_t *stack, uint64_t old, uint64_t size)
{
    sys2(__NR_munmap, old, size);
    if (adoption) {
        adoption->image = adoption->image_size = 0;
        adoption->region = mv_region.start;
        adoption->region_size = mv_region.end - mv_region.start;
        arguments.argc = adoption->argc;
        arguments.argv = adoption->argv;
        arguments.envp = adoption->envp;
    } else {
        arguments.argc = *stack;
        arguments.argv = (char **)(stack + 1);
        arguments.envp = arguments.argv + arguments.argc + 1;
    }
    char **env = arguments.envp;
    while (*env)
        env++;
    arguments.auxv = (uint64_t *)(env + 1);
    char *boot_stack = mv_region_alloc(KIB(128));
    if (!boot_stack && adoption)
        mv_adopt_refuse(adoption, "memory for the core", -ENOMEM);
    if (!boot_stack)
        mv_die(MV_EXIT_FAILURE, "run: memory for the core: no memory; raise the limit (ulimit -v)");
    mv_call_on_stack(adoption ? mv_adopt : start, adoption, (uint64_t)boot_stack + KIB(128));
}
