// How a native program ends. A report is one line of key=value words, beginning with the status; a
// mere exit has no other words. The command line makes it readable.

#include "base/print.h"
#include "base/string.h"
#include "base/sys.h"
#include "hvm/details.h"
#include "monitor/monitor.h"

enum { STDERR = 2 };
static struct mv_lock ending;

// A report's text is the program's, and a terminal would act on some bytes.
static size_t make_printable(char *to, const char *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = READ_ONCE(from[i]);
        to[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    return size;
}

void mon_end(int status, const char *text, size_t size)
{
    static char line[MON_REPORT_MAX + 64];
    mv_lock(&ending); // never unlocked: the first one to end it ends it
    size_t len = mv_format(line, sizeof(line), "status=%d%s", status, size ? " " : "");
    len += make_printable(line + len, text, MIN(size, (size_t)MON_REPORT_MAX));
    line[len++] = '\n';
    int fd = mon.config.report_fd < 0 ? STDERR : mon.config.report_fd;
    if (size || fd != STDERR)
        sys3(__NR_write, fd, line, len);
    sys_exit_group(status);
}

void mon_end_failed(struct mon_cpu *cpu, struct hvm_exit exit)
{
    static struct hvm_details details;
    char text[1024];
    hvm_vcpu_examine(&cpu->vcpu, &details);
    const struct kvm_regs *r = &details.regs;
    size_t len =
        mv_format(text, sizeof(text), "what=machine cpu=%u address=%lx reason=", cpu->vcpu.id,
                  (unsigned long)exit.address);
    for (const char *c = hvm_exit_name(exit); *c && len + 1 < sizeof(text); c++)
        text[len++] = *c == ' ' ? '_' : *c;
    if (hvm_details_usable(&details))
        len += mv_format(
            text + len, sizeof(text) - len,
            " rip=%lx rsp=%lx rflags=%lx cr2=%lx cr3=%lx rax=%lx rbx=%lx rcx=%lx rdx=%lx rsi=%lx "
            "rdi=%lx rbp=%lx",
            (unsigned long)r->rip, (unsigned long)r->rsp, (unsigned long)r->rflags,
            (unsigned long)details.sregs.cr2, (unsigned long)details.sregs.cr3,
            (unsigned long)r->rax, (unsigned long)r->rbx, (unsigned long)r->rcx,
            (unsigned long)r->rdx, (unsigned long)r->rsi, (unsigned long)r->rdi,
            (unsigned long)r->rbp);
    mon_end(MV_STATUS_FAULT, text, len);
}
