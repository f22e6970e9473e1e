// Proves rarely used interfaces: io_uring (or a clean refusal), the vsyscall page, ptrace of a
// child, personality, rusage, limits, memory policy, memory locks, NUMA, capabilities, prctl.
#include "guest.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/user.h>
#include <sys/utsname.h>

// A no-op through the rings, if there are rings.
static void io_uring(void)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (fd < 0) {
        say("io_uring", "%s", error_name(errno));
        return;
    }
    size_t size = params.sq_off.array + params.sq_entries * 4;
    size_t other = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    char *ring = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqes = mmap(NULL, params.sq_entries * sizeof(*sqes),
                                     PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
    NEED(ring != MAP_FAILED && (void *)sqes != MAP_FAILED);
    memset(sqes, 0, sizeof(*sqes));
    sqes->opcode = IORING_OP_NOP;
    sqes->user_data = 0x1234;
    *(uint32_t *)(ring + params.sq_off.array) = 0;
    __atomic_store_n((uint32_t *)(ring + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    long done = syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    struct io_uring_cqe *cqe = (void *)(ring + params.cq_off.cqes);
    say("io_uring", "entered %ld data %llx result %d", done, cqe->user_data, cqe->res);
    close(fd);
}

static void trace_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execl("/bin/true", "true", (char *)NULL);
        _exit(9);
    }
    int status;
    NEED(waitpid(child, &status, 0) == child);
    say_status("at exec", status);
    struct user_regs_struct regs;
    NEED(ptrace(PTRACE_GETREGS, child, NULL, &regs) == 0);
    say("orig_rax", "%lld cs %llx", regs.orig_rax, regs.cs);
    int steps = 0;
    for (; steps < 50; steps++) {
        NEED(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        NEED(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    }
    say("steps", "%d", steps);
    ptrace(PTRACE_CONT, child, NULL, NULL);
    wait_and_say("traced child", child);
}

int main(void)
{
    io_uring();

    long (*vsyscall_time)(long *) = (void *)0xffffffffff600400;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[500];
    bool has_vsyscall = false;
    while (maps && fgets(line, sizeof(line), maps))
        has_vsyscall |= strstr(line, "[vsyscall]") != NULL;
    say("vsyscall page", "%s", yes(has_vsyscall));
    if (has_vsyscall)
        say("time by vsyscall", "%s", yes(labs(vsyscall_time(NULL) - time(NULL)) <= 1));

    trace_child();
    say("personality", "%x", personality(0xffffffff));
    pid_t child = fork();
    if (child == 0) {
        personality(ADDR_NO_RANDOMIZE);
        execl("/usr/bin/setarch", "setarch", "--show", (char *)NULL);
        _exit(personality(0xffffffff) == ADDR_NO_RANDOMIZE ? 44 : 45);
    }
    wait_and_say("personality kept over exec", child);

    for (volatile int i = 0; i < 60000000; i++)
        continue;
    struct rusage usage;
    struct tms tms;
    NEED(getrusage(RUSAGE_SELF, &usage) == 0);
    say("CPU time", "%s",
        yes(usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec > 0));
    say("resident memory", "%s", yes(usage.ru_maxrss > 100));
    NEED(times(&tms) != -1);
    say("clock ticks", "%s", yes(tms.tms_utime + tms.tms_stime > 0));
    NEED(getrusage(RUSAGE_CHILDREN, &usage) == 0);
    say("children's memory", "%s", yes(usage.ru_maxrss > 100));

    struct rlimit limit = {.rlim_cur = 3000000000, .rlim_max = 3000000000};
    NEED(setrlimit(RLIMIT_DATA, &limit) == 0);
    say("data limit", "%s",
        mmap(NULL, 4000000000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                MAP_FAILED
            ? error_name(errno)
            : "ok");
    limit.rlim_cur = limit.rlim_max = 1;
    child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CPU, &limit);
        for (;;)
            continue;
    }
    wait_and_say("CPU limit", child);
    child = fork();
    if (child == 0) {
        limit.rlim_cur = limit.rlim_max = 100;
        setrlimit(RLIMIT_FSIZE, &limit);
        FILE *file = tmpfile();
        memset(line, 'x', sizeof(line));
        say("beyond the file limit", "%ld", (long)write(fileno(file), line, sizeof(line)));
        (void)!write(fileno(file), line, sizeof(line));
        _exit(9);
    }
    wait_and_say("file limit", child);

    struct utsname name;
    NEED(uname(&name) == 0);
    say("uname", "%s %s %s", name.sysname, name.release, name.machine);
    struct sysinfo info;
    NEED(sysinfo(&info) == 0);
    say("memory", "%lu", info.totalram);
    say("name", "%s", outcome(prctl(PR_SET_NAME, "a-name-that-is-too-long")));
    char comm[16];
    prctl(PR_GET_NAME, comm);
    say("kept", "%s", comm);
    say("timer slack", "%d", prctl(PR_GET_TIMERSLACK));
    say("membarrier", "%s", yes(syscall(SYS_membarrier, 0, 0, 0) > 0));
    say("getrandom", "%ld", syscall(SYS_getrandom, line, 32, 0));
    say("swapon", "%s", outcome(syscall(SYS_swapon, "/nonexistent", 0)));
    return 0;
}
