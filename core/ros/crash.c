// In what order a crash is handled, and why it ends: the line comes first, since it needs nothing;
// then everything is taken down into a memory file, from what is surest to what may fail; then the
// process becomes the core again (main/reporter.c), rid of its threads, its memory and whatever
// they hold. A fault on the way, or the deadline, ends the taking down, never the reporting.

#include "ros/crash.h"

#include <linux/time_types.h>

#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "hvm/details.h"
#include "ros/report.h"

enum { DEADLINE_S = 5, STOP_TRIES = 300, STOP_SLEEP_NS = 1000000 };
enum { TEXT_BYTES = 4096 };
// To stop other threads, and for the deadline: never blocked on a partner.
enum { SIGNAL_STOP = SIGTRAP, SIGNAL_DEADLINE = SIGBUS };

static struct {
    uint64_t owner; // pid and tid of the thread that crashed, or 0
    unsigned stage; // how often the report has been handed over
    bool told;      // the line has been written
    int timer;
    bool timed;
} crash;

static char report_to[TEXT_BYTES], python[TEXT_BYTES];

// What an interpreter may need to start: where it was found when the program began it worked.
static const char *const kept_variables[] = {"LD_LIBRARY_PATH=", "HOME="};
static char variables[ARRAY_SIZE(kept_variables)][TEXT_BYTES];

static void copy_text(char to[TEXT_BYTES], const char *from)
{
    size_t len = from ? strlen(from) : 0;
    if (len < TEXT_BYTES)
        memcpy(to, from ? from : "", len + 1);
}

void ros_crash_init(const char *to, const char *interpreter, char *const *envp)
{
    copy_text(report_to, to);
    copy_text(python, interpreter);
    for (; *envp; envp++)
        for (unsigned i = 0; i < ARRAY_SIZE(kept_variables); i++)
            if (strncmp(*envp, kept_variables[i], strlen(kept_variables[i])) == 0)
                copy_text(variables[i], *envp);
}

_Noreturn static void wait_for_the_end(void)
{
    for (;;)
        sys0(__NR_pause);
}

// ---- Handing over ------------------------------------------------------------------------------

// Become the core again, as the reporter. Returns if that is impossible.
static void become_reporter(int fd)
{
    char number[16];
    mv_format(number, sizeof(number), "%d", fd);
    const char *argv[] = {ros.core_path, "crash", number, report_to, python, NULL};
    const char *envp[ARRAY_SIZE(variables) + 1] = {0};
    unsigned used = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(variables); i++)
        if (variables[i][0])
            envp[used++] = variables[i];
    // The program's timers outlive it, and its handlers do not: only a user ends the reporter.
    ros_sigset mask = ~(SIGBIT(SIGINT) | SIGBIT(SIGQUIT) | SIGBIT(SIGTERM) | SIGBIT(SIGHUP) |
                        SIGBIT(SIGTSTP) | SIGBIT(SIGCONT) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU));
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
    sys3(__NR_execve, ros.core_path, argv, envp);
}

// End the process with the report as far as it has got.
_Noreturn static void hand_over(void)
{
    unsigned stage = crash.stage++;
    if (!crash.told) {
        crash.told = true;
        mv_error("internal error: a fault of the core while a crash was handled; please report "
                 "this");
    }
    if (crash.timed)
        sys1(__NR_timer_delete, crash.timer);
    crash.timed = false;
    if (stage < 2) { // not for a fault in here, twice
        int fd = report_close();
        if (stage == 0 && fd >= 0 && python[0] && strcmp(report_to, "raw") != 0)
            become_reporter(fd);
        mv_print_file(fd);
    }
    sys_exit_group(MV_EXIT_FAILURE);
}

// ---- Taking down -------------------------------------------------------------------------------

static uint64_t this_thread(void)
{
    return (uint64_t)sys0(__NR_getpid) << 32 | (uint32_t)sys0(__NR_gettid);
}

// The first thread of a process to get here reports; others wait to be ended with it.
static void become_owner(void)
{
    uint64_t me = this_thread(), seen = __atomic_load_n(&crash.owner, __ATOMIC_ACQUIRE);
    ros_sigset closed = ~ROS_SYNC_SIGNALS;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &closed, 0, sizeof(closed));
    do {
        if (seen == me)
            hand_over();
        if (seen >> 32 == me >> 32)
            wait_for_the_end();
    } while (!__atomic_compare_exchange_n(&crash.owner, &seen, me, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    crash.stage = 0; // memory may be shared with a process that has crashed before
    crash.told = false;
}

static void set_deadline(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL_DEADLINE};
    event._sigev_un._tid = (int)sys0(__NR_gettid);
    struct __kernel_itimerspec when = {.it_value.tv_sec = DEADLINE_S};
    crash.timed = sys3(__NR_timer_create, CLOCK_MONOTONIC, &event, &crash.timer) == 0 &&
                  sys4(__NR_timer_settime, crash.timer, 0, &when, 0) == 0;
}

void ros_crash_signal(struct ros_group *group, const siginfo_t *info)
{
    uint64_t owner = __atomic_load_n(&crash.owner, __ATOMIC_ACQUIRE);
    if (!owner || owner >> 32 != (uint64_t)sys0(__NR_getpid))
        return;
    if (owner == this_thread()) {
        if (info->si_code == SI_TIMER)
            hand_over();
        return;
    }
    // KVM_RUN has returned, so the virtual CPU's state can be had, by this thread alone.
    struct hvm_state state;
    if (!group->poller) {
        hvm_vcpu_get_state(&group->vcpu, &state, NULL);
        group->stopped.rip = state.regs.rip;
        group->stopped.rsp = state.regs.rsp;
        group->stopped.rbp = state.regs.rbp;
        __atomic_store_n(&group->stopped.known, 1, __ATOMIC_RELEASE);
    }
    wait_for_the_end();
}

// Let no thread of the process go on. One that does not stop in time, in a call of Linux's that
// cannot be interrupted, ends with the process.
static void stop_others(const struct ros_group *self, uint32_t pid)
{
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        struct ros_group *group = ros_group_at(i);
        if (group == self || !READ_ONCE(group->busy) || group->id.pid != pid)
            continue;
        hvm_kick(&group->vcpu);
        sys3(__NR_tgkill, pid, group->id.tid, SIGNAL_STOP);
    }
    for (unsigned try = 0; try < STOP_TRIES; try++) {
        bool all = true;
        for (unsigned i = 0; i < ros_groups_count(); i++) {
            struct ros_group *group = ros_group_at(i);
            all = all && (group == self || !READ_ONCE(group->busy) || group->id.pid != pid ||
                          __atomic_load_n(&group->stopped.known, __ATOMIC_ACQUIRE));
        }
        struct __kernel_timespec time = {.tv_nsec = STOP_SLEEP_NS};
        if (all || sys2(__NR_nanosleep, &time, 0))
            return;
    }
}

static bool wanted(void)
{
    return report_to[0] && strcmp(report_to, "off") != 0;
}

_Noreturn static void take_down(struct ros_group *group, const struct hvm_details *details)
{
    uint32_t pid = (uint32_t)sys0(__NR_getpid);
    if (group->poller) { // it has no virtual CPU
        report_mappings();
        report_end();
        hand_over();
    }
    report_processor(group, details);
    report_events(group);
    stop_others(group, pid);
    report_threads(group, pid);
    report_mappings();
    report_stack(group, details);
    report_arguments();
    report_end();
    hand_over();
}

void ros_crash(struct ros_group *group, const char *what, uint64_t detail)
{
    struct hvm_details details;
    become_owner();
    hvm_vcpu_examine(&group->vcpu, &details);
    mv_error("run: %s (%lu) at RIP 0x%lx: the virtual machine cannot go on; run the program with "
             "--hvm=off",
             what, (unsigned long)detail, (unsigned long)report_rip(group, &details));
    crash.told = true;
    if (!wanted())
        sys_exit_group(MV_EXIT_FAILURE);
    report_open();
    set_deadline();
    report_head(group, what, detail);
    take_down(group, &details);
}

void ros_crash_of_core(struct ros_group *group, int sig, const siginfo_t *info,
                       const struct ucontext *uc)
{
    struct hvm_details details;
    become_owner();
    mv_error("internal error: signal %d at core offset 0x%lx, address 0x%lx; please report this",
             sig, (unsigned long)(uc->uc_mcontext.rip - mv_region.start),
             (unsigned long)info->si_addr);
    crash.told = true;
    if (!wanted())
        sys_exit_group(MV_EXIT_FAILURE);
    report_open();
    set_deadline();
    report_head(group, "internal error of the core", (uint64_t)sig);
    report_core(sig, info, uc);
    hvm_vcpu_examine(&group->vcpu, &details);
    take_down(group, &details);
}
