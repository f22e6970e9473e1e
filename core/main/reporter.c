// What the core becomes when the program has crashed (ros/crash.c): a process without threads and
// without the program's memory that gives the report to the command line, and that prints it as it
// is where that does not work.

#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/time_types.h>
#include <linux/wait.h>

#include "base/print.h"
#include "base/sys.h"
#include "main/main.h"

enum { PATIENCE_S = 120, TURN_NS = 5000000 };
enum { TURNS = PATIENCE_S * (1000000000LL / TURN_NS) };

// Wait for the child. Returns true if it ended well.
static bool ends_well(long pid)
{
    for (long turn = 0; turn < TURNS; turn++) {
        int status = -1;
        long ended = sys4(__NR_wait4, pid, &status, WNOHANG, 0);
        if (ended)
            return ended == pid && status == 0;
        struct __kernel_timespec time = {.tv_nsec = TURN_NS};
        sys2(__NR_nanosleep, &time, 0);
    }
    sys2(__NR_kill, pid, SIGKILL);
    return false;
}

static int parse_fd(const char *text)
{
    int fd = 0;
    for (; *text >= '0' && *text <= '9' && fd < 1 << 20; text++)
        fd = fd * 10 + *text - '0';
    return fd;
}

void mv_report(char **args, char **envp)
{
    enum { FD_KEPT = 3 };
    const char *to = args[1], *python = args[2];
    // An end that others wait for has come: let go of what the program had open.
    int fd = (int)sys3(__NR_dup2, parse_fd(args[0]), FD_KEPT, 0);
    sys3(__NR_close_range, FD_KEPT + 1, ~0U, 0);
    // An ignored SIGCHLD would take the child's status away.
    struct {
        uint64_t handler, flags, restorer, mask;
    } fallback = {0};
    sys4(__NR_rt_sigaction, SIGCHLD, &fallback, 0, sizeof(fallback.mask));
    long pid = sys0(__NR_fork);
    if (pid == 0) {
        const char *argv[] = {python,         "-E",   "-P", "-X",   "utf8", "-m", "multiverse",
                              "crash-report", "--fd", "3",  "--to", to,     NULL};
        sys3(__NR_execve, python, argv, envp);
        sys_exit_group(MV_EXIT_FAILURE);
    }
    if (pid < 0 || !ends_well(pid)) {
        sys3(__NR_lseek, fd, 0, 0);
        mv_print_file(fd);
    }
    sys_exit_group(MV_EXIT_FAILURE);
}
