// Proves that a program can put itself under a seccomp filter that allows only the few calls it
// makes, and goes on correctly: whatever runs the program must not make calls of its own that the
// filter forbids, nor run what the filter forbids. Arguments: "errno", "trap", "kill", "strict".
#include "guest.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static volatile sig_atomic_t hits;

static void handler(int sig, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    say("trapped", "%s code %d number %d rax %lld here %s", sigabbrev_np(sig), info->si_code,
        info->si_syscall, regs[REG_RAX], yes((void *)regs[REG_RIP] == info->si_call_addr));
    regs[REG_RAX] = 4711;
    hits++;
}

static void install(uint32_t action)
{
#define ALLOW(nr)                                                                                  \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        ALLOW(SYS_rt_sigreturn),
        BPF_STMT(BPF_RET | BPF_K, action),
    };
    struct sock_fprog program = {.len = COUNT(code), .filter = code};
    NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void fault_in(void)
{
    // Memory is touched for the first time under the filter, so that whatever page faults of the
    // program need done for them is done under it, too.
    static char fresh[40 << 20];
    long sum = 0;
    for (size_t i = 0; i < sizeof(fresh); i += PAGE)
        sum += ++fresh[i];
    say("fresh memory", "%ld", sum);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "errno";
    handle(SIGSYS, handler, 0);
    say("mode", "%s", mode);
    if (!strcmp(mode, "strict")) {
        NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
        say("strict", "still writing");
        fault_in();
        syscall(SYS_exit, 3);
    }
    install(!strcmp(mode, "trap")   ? SECCOMP_RET_TRAP
            : !strcmp(mode, "kill") ? SECCOMP_RET_KILL_PROCESS
                                    : SECCOMP_RET_ERRNO | ENOTTY);
    fault_in();
    say("allowed", "%s", "write");
    say("forbidden", "%ld", syscall(SYS_getppid));
    say("errno", "%s", error_name(errno));
    say("hits", "%d", hits);
    return 7;
}
