#include "ros/report.h"

#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/time_types.h>

#include "abi/trace.h"
#include "aerokernel/cpu.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U // Linux 6.3
#endif

enum { STDERR = 2, FIRST_FREE = 3 };
enum { VERSION = 1, CODE_BEFORE = 32, CODE_BYTES = 64, STACK_BYTES = 4096, FRAMES_MAX = 64 };
// Two frames of one stack that lie further apart are none.
#define FRAME_BYTES_MAX MIB(1)

static struct {
    int fd;
    size_t used;
    char buffer[4096];
} out = {.fd = -1};

// ---- Writing -----------------------------------------------------------------------------------

static void flush(void)
{
    const char *from = out.buffer;
    while (out.used) {
        long n = sys3(__NR_write, out.fd < 0 ? STDERR : out.fd, from, out.used);
        if (n == -EINTR)
            continue;
        if (n <= 0 && out.fd >= 0) { // no room, or a limit on the size of files
            sys3(__NR_lseek, out.fd, 0, 0);
            mv_print_file(out.fd);
            sys1(__NR_close, out.fd);
            out.fd = -1;
            continue;
        }
        if (n <= 0)
            break;
        from += n;
        out.used -= (size_t)n;
    }
    out.used = 0;
}

static void put_char(char c)
{
    if (out.used == sizeof(out.buffer))
        flush();
    out.buffer[out.used++] = c;
}

__attribute__((format(printf, 1, 2))) static void put(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    size_t len = mv_vformat(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < len; i++)
        put_char(text[i]);
}

// Bytes of whatever origin: printable ASCII as it is, the rest as \xNN.
static void put_escaped(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= ' ' && c <= '~' && c != '\\')
            put_char((char)c);
        else
            put("\\x%x%x", c >> 4U, c & 15U);
    }
}

static void put_bytes(const char *key, uint64_t address, const uint8_t *bytes, size_t len)
{
    put("%s=0x%lx,", key, (unsigned long)address);
    for (size_t i = 0; i < len; i++)
        put("%x%x", bytes[i] >> 4U, bytes[i] & 15U);
    put("\n");
}

static void put_value(const char *key, uint64_t value)
{
    put("%s=0x%lx\n", key, (unsigned long)value);
}

static long make_file(void)
{
    static const char name[] = "multiverse-crash";
    long fd = sys2(__NR_memfd_create, name, MFD_NOEXEC_SEAL); // an administrator may insist on it
    return fd == -EINVAL ? sys2(__NR_memfd_create, name, 0) : fd;
}

void report_open(void)
{
    long fd = make_file();
    if (fd == -EMFILE) { // one of the program's goes sooner than the rest
        sys1(__NR_close, FIRST_FREE);
        fd = make_file();
    }
    if (fd >= 0 && fd < FIRST_FREE) { // closed standard descriptors stay closed
        long higher = sys3(__NR_fcntl, fd, F_DUPFD, FIRST_FREE);
        sys1(__NR_close, fd);
        fd = higher;
    }
    out.fd = fd < 0 ? -1 : (int)fd;
    out.used = 0;
    put("multiverse-crash=%u\n", VERSION);
}

int report_close(void)
{
    flush();
    if (out.fd >= 0)
        sys3(__NR_lseek, out.fd, 0, 0);
    return out.fd;
}

void report_end(void)
{
    put("end=1\n");
}

// ---- What the core knows -----------------------------------------------------------------------

void report_head(const struct ros_group *group, const char *what, uint64_t detail)
{
    struct __kernel_timespec now = {0};
    sys2(__NR_clock_gettime, CLOCK_REALTIME, &now);
    put("what=%s\ndetail=%lu\n", what, (unsigned long)detail);
    put("pid=%ld\ntid=%ld\n", sys0(__NR_getpid), sys0(__NR_gettid));
    put("ring=%u\nvcpu=%u\ntime=%ld\n", ros.ring, group->vcpu.id, (long)now.tv_sec);
    put("tsc=%lu\n", (unsigned long)rdtsc());
    put("core=");
    put_escaped(ros.core_path, strlen(ros.core_path));
    put("\nprogram=");
    put_escaped(ros.exe_path, strlen(ros.exe_path));
    put("\nregion=0x%lx,0x%lx\n", (unsigned long)mv_region.start, (unsigned long)mv_region.end);
    put("aerokernel=0x%lx,0x%lx,0x%lx,0x%lx,0x%lx,0x%lx\n", (unsigned long)AK_BASE,
        (unsigned long)AK_WINDOWS, (unsigned long)AK_WINDOW_STRIDE, (unsigned long)group->window,
        (unsigned long)AK_KERNEL, (unsigned long)AK_MEMORY_VIEW);
}

static void put_segment(const char *name, const struct kvm_segment *s)
{
    put("%s=0x%x,0x%lx,0x%x,type=%u,dpl=%u,present=%u,long=%u\n", name, s->selector,
        (unsigned long)s->base, s->limit, s->type, s->dpl, s->present, s->l);
}

// The AeroKernel's page of IST stacks is the guest's to write: what is found there is only printed.
static bool read_exception(const struct ros_group *group, const struct kvm_regs *regs,
                           struct ak_exception *ret)
{
    return ak_exception_read(group->ist_page, group->window, regs->rip, regs->rsp, ret);
}

uint64_t report_rip(const struct ros_group *group, const struct hvm_details *details)
{
    struct ak_exception e;
    return read_exception(group, &details->regs, &e) ? e.rip : details->regs.rip;
}

static void put_frame(const struct mv_frame *f)
{
    const struct {
        const char *name;
        uint64_t value;
    } values[] = {
        {"rax", f->rax}, {"rbx", f->rbx},       {"rcx", f->rcx}, {"rdx", f->rdx},   {"rsi", f->rsi},
        {"rdi", f->rdi}, {"rbp", f->rbp},       {"rsp", f->rsp}, {"r8", f->r8},     {"r9", f->r9},
        {"r10", f->r10}, {"r11", f->r11},       {"r12", f->r12}, {"r13", f->r13},   {"r14", f->r14},
        {"r15", f->r15}, {"rflags", f->rflags}, {"rip", f->rip}, {"ring", f->ring},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        put("frame.%s=0x%lx\n", values[i].name, (unsigned long)values[i].value);
}

void report_processor(const struct ros_group *group, const struct hvm_details *details)
{
    const struct kvm_regs *r = &details->regs;
    const struct kvm_sregs *s = &details->sregs;
    const struct {
        const char *name;
        uint64_t value;
    } values[] = {
        {"rax", r->rax}, {"rbx", r->rbx}, {"rcx", r->rcx},       {"rdx", r->rdx}, {"rsi", r->rsi},
        {"rdi", r->rdi}, {"rbp", r->rbp}, {"rsp", r->rsp},       {"r8", r->r8},   {"r9", r->r9},
        {"r10", r->r10}, {"r11", r->r11}, {"r12", r->r12},       {"r13", r->r13}, {"r14", r->r14},
        {"r15", r->r15}, {"rip", r->rip}, {"rflags", r->rflags}, {"cr0", s->cr0}, {"cr2", s->cr2},
        {"cr3", s->cr3}, {"cr4", s->cr4}, {"efer", s->efer},
    };
    put("exit.reason=%u\nexit.suberror=%lu\n", details->reason, (unsigned long)details->suberror);
    for (unsigned i = 0; i < details->words; i++)
        put_value("exit.word", details->word[i]);
    put("usable=%u\n", hvm_details_usable(details));
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        put_value(values[i].name, values[i].value);
    const struct kvm_segment *segments[] = {&s->cs, &s->ss, &s->ds, &s->es, &s->fs, &s->gs, &s->tr};
    static const char *const names[] = {"cs", "ss", "ds", "es", "fs", "gs", "tr"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        put_segment(names[i], segments[i]);
    put("gdt=0x%lx,0x%x\n", (unsigned long)s->gdt.base, s->gdt.limit);
    put("idt=0x%lx,0x%x\n", (unsigned long)s->idt.base, s->idt.limit);
    put_value("expected.cr3", ros_space_root());
    put_value("expected.gdt", ak_gdt_address(group->window));
    put_value("expected.idt", AK_IDT_PAGE);
    if (details->events.exception.injected || details->events.exception.pending)
        put("pending=%u,0x%x\n", details->events.exception.nr,
            details->events.exception.has_error_code ? details->events.exception.error_code : 0);
    struct ak_exception e;
    if (read_exception(group, r, &e))
        put("exception=%u,0x%lx,0x%lx,0x%lx,0x%lx\n", e.vector, (unsigned long)e.error,
            (unsigned long)e.rip, (unsigned long)e.rsp, (unsigned long)e.rflags);
    put_frame(group->frame);
    const struct mv_trap *trap = group->trap;
    put("trap=%u,0x%lx,0x%lx,0x%lx,0x%lx\n", trap->word.active, (unsigned long)trap->error,
        (unsigned long)trap->cr2, (unsigned long)trap->state.rip, (unsigned long)trap->state.rsp);
}

void report_events(const struct ros_group *group)
{
    static const char *const kinds[] = {
        [MV_TRACE_NONE] = "none",           [MV_TRACE_SYSCALL] = "syscall",
        [MV_TRACE_SYNC] = "sync",           [MV_TRACE_EXCEPTION] = "exception",
        [MV_TRACE_FAULT] = "fault",         [MV_TRACE_KICK] = "kick",
        [MV_TRACE_MERGE] = "merge",         [MV_TRACE_REPLICATION] = "replication",
        [MV_TRACE_SIGNAL] = "signal",       [MV_TRACE_GROUP_START] = "group_start",
        [MV_TRACE_GROUP_END] = "group_end",
    };
    _Static_assert(ARRAY_SIZE(kinds) == MV_TRACE_KIND_COUNT, "every kind has a name");
    uint32_t next = group->recent_next;
    for (uint32_t i = next > ROS_RECENT ? next - ROS_RECENT : 0; i < next; i++) {
        const struct ros_recent *r = &group->recent[i % ROS_RECENT];
        const uint64_t *a = r->event.a;
        put("event=%lu,%s,%u,%ld,0x%lx,0x%lx,0x%lx,0x%lx\n", (unsigned long)r->begin,
            kinds[MIN(r->event.kind, MV_TRACE_KIND_COUNT - 1U)], r->event.nr, (long)r->event.result,
            (unsigned long)a[0], (unsigned long)a[1], (unsigned long)a[2], (unsigned long)a[3]);
    }
}

void report_threads(const struct ros_group *self, uint32_t pid)
{
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        const struct ros_group *group = ros_group_at(i);
        if (group == self || !READ_ONCE(group->busy) || group->id.pid != pid)
            continue;
        put("thread=%u,%u,%u,0x%lx,0x%lx,0x%lx,0x%lx,%u\n", group->id.tid, group->vcpu.id,
            __atomic_load_n(&group->stopped.known, __ATOMIC_ACQUIRE),
            (unsigned long)group->stopped.rip, (unsigned long)group->stopped.rsp,
            (unsigned long)group->stopped.rbp, (unsigned long)group->frame->rip,
            (unsigned)group->frame->rax);
    }
}

void report_core(int sig, const siginfo_t *info, const struct ucontext *uc)
{
    const struct sigcontext *c = &uc->uc_mcontext;
    put("core.signal=%d\n", sig);
    put_value("core.address", (uint64_t)info->si_addr);
    put_value("core.rip", c->rip);
    put_value("core.rsp", c->rsp);
    put_value("core.rax", c->rax);
    put_value("core.rdi", c->rdi);
    put_value("core.rsi", c->rsi);
    put_value("core.rdx", c->rdx);
    // Its stack ends with the block that it lies in.
    uint8_t stack[1024];
    uint64_t end = ALIGN_UP(c->rsp + 1, GROUP_BLOCK), start = mv_region.start;
    if (c->rsp >= start && end <= mv_region.end) {
        size_t size = MIN(end - c->rsp, sizeof(stack));
        if (ros_copy_asm(stack, (const void *)c->rsp, size) == 0)
            put_bytes("core.stack", c->rsp, stack, size);
    }
}

// ---- The program's memory ----------------------------------------------------------------------

static void put_memory(const char *key, uint64_t start, uint64_t size)
{
    uint8_t bytes[256];
    for (uint64_t at = start, end = start + size; at < end && at >= start;) {
        // Never past a page that may be the last one.
        uint64_t step = MIN(MIN(end - at, sizeof(bytes)), PAGE_SIZE - at % PAGE_SIZE);
        if (ros_copy_in(bytes, at, step) == 0)
            put_bytes(key, at, bytes, step);
        else if (at > start)
            return;
        at += step;
    }
}

// Return addresses by frame pointers, as far as they make sense.
static void walk(uint64_t rsp, uint64_t rbp)
{
    uint64_t low = rsp, pair[2];
    for (unsigned i = 0; i < FRAMES_MAX; i++) {
        if (rbp % 8 || rbp < low || rbp - low > FRAME_BYTES_MAX ||
            ros_copy_in(pair, rbp, sizeof(pair)) || !pair[1])
            return;
        put("trace=fp,0x%lx\n", (unsigned long)pair[1]);
        low = rbp + sizeof(pair);
        rbp = pair[0];
    }
}

static void put_step(const char *how, uint64_t rip)
{
    put("trace=%s,0x%lx\n", how, (unsigned long)rip);
}

void report_stack(const struct ros_group *group, const struct hvm_details *details)
{
    const struct mv_frame *f = group->frame;
    struct kvm_regs r = details->regs;
    bool usable = hvm_details_usable(details);
    struct ak_exception e;
    if (usable)
        put_step("rip", r.rip);
    if (usable && read_exception(group, &r, &e)) {
        put_step("exception", e.rip);
        r.rip = e.rip;
        r.rsp = e.rsp;
    }
    // An event that the AeroKernel is answering: the program's state is in the trap's record.
    uint64_t offset = r.rip - group->window;
    bool in_window = offset < AK_WINDOW_STRIDE, in_image = ros_space_is_kernel(r.rip);
    bool answering = in_image || (in_window && offset >= (uint64_t)(ak_trap_entry - ak_entry_page));
    bool on_ist = r.rsp - (group->window + AK_IST_OFFSET) < PAGE_SIZE; // amid the way of a fault
    uint32_t active = READ_ONCE(group->trap->word.active);
    if (usable && answering && (active == MV_TRAP_FAULT || active == MV_TRAP_CALL)) {
        const struct mv_frame *t = &group->trap->state;
        r = (struct kvm_regs){.rip = t->rip, .rsp = t->rsp, .rbp = t->rbp};
        put_step("trap", r.rip);
    } else if (!usable || in_window || in_image || on_ist) {
        // The AeroKernel's entries keep RBP; what else the program had is in the frame.
        put_step("frame", f->rip);
        r = (struct kvm_regs){.rip = f->rip, .rsp = f->rsp, .rbp = usable ? r.rbp : f->rbp};
    }
    put("context=0x%lx,0x%lx,0x%lx\n", (unsigned long)r.rip, (unsigned long)r.rsp,
        (unsigned long)r.rbp);
    walk(r.rsp, r.rbp);
    put_memory("code", r.rip - MIN(r.rip, (uint64_t)CODE_BEFORE), CODE_BYTES);
    put_memory("stack", ALIGN_DOWN(r.rsp, 8), STACK_BYTES);
}

// Copy a file of /proc: its lines with `key` in front, or what is between NULs.
static void put_file(const char *path, const char *key, char separator)
{
    char chunk[1024];
    bool begun = false;
    long n, fd = sys3(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = sys3(__NR_read, fd, chunk, sizeof(chunk))) > 0)
        for (long i = 0; i < n; i++) {
            if (!begun)
                put("%s=", key);
            begun = chunk[i] != separator;
            if (begun)
                put_escaped(&chunk[i], 1);
            else
                put_char('\n');
        }
    if (begun)
        put_char('\n');
    if (fd >= 0)
        sys1(__NR_close, fd);
}

void report_mappings(void)
{
    put_file("/proc/self/maps", "map", '\n');
}

void report_arguments(void)
{
    put_file("/proc/self/cmdline", "arg", 0);
}
