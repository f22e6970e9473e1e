// The Linux side: execution groups, the partner's loop, system calls, signals, processes, and the
// superposition of the address space.
#ifndef MV_ROS_ROS_H
#define MV_ROS_ROS_H

#include "abi/channel.h"
#include "abi/fat.h"
#include "abi/frame.h"
#include "abi/signal.h"
#include "aerokernel/paging.h"
#include "base/context.h"
#include "base/lock.h"
#include "base/thread.h"
#include "base/types.h"
#include "hvm/hvm.h"

// The dispositions that groups made with CLONE_SIGHAND share.
struct ros_sighand {
    struct mv_lock lock;
    uint32_t users;
    struct ros_sigaction action[ROS_SIGNALS + 1];
};

// How the virtual CPU goes on when the partner is done.
enum ros_resume {
    ROS_CONTINUE, // it stands in the AeroKernel's entry and loads the frame by itself
    ROS_LOAD,     // the frame has to be loaded into it
};

// Where the program's extended state is.
enum ros_xsave_place {
    XSAVE_IN_VCPU,
    XSAVE_IN_BOTH,  // and, the same, in ros_group.xsave
    XSAVE_IN_GROUP, // the virtual CPU's is out of date
};

// An event as abi/trace.h says, without what the trace adds to it.
struct ros_event {
    uint32_t kind; // enum mv_trace_kind
    uint32_t nr;
    int64_t result;
    uint64_t a[4];
};

// The last events of a group, kept at all times for a crash report: a cache line each.
enum { ROS_RECENT = 16 };
struct ros_recent {
    uint64_t begin; // TSC
    struct ros_event event;
    uint64_t unused;
};

// For a profile (profile.c): the stay of a partner on the ROS side, from one KVM_RUN to the next,
// and the event that is under way there or on a poller. Whoever acts for the group has it.
struct ros_visit {
    struct mv_profile_group *group;   // where the group is counted; NULL if there is no room
    struct mv_profile_counts *counts; // where the first event is; NULL: there was none yet
    uint64_t left_at;                 // TSC of KVM_RUN's return
    uint64_t call_at;                 // TSC at which the call began,
    bool may_wait, timed;             // whether it may wait; and if so, whether we have
    uint64_t processor_ns;            // the thread's time on processors until then
    uint64_t in_calls;                // TSC cycles in events so far
    uint64_t nested;                  // of these, within the event that is under way
    uint64_t rip, rsp, rbp;           // where the program is
    uint64_t stack_end;               // where its stack could not be read any more
};

// One execution group: a Linux thread (the partner) and the virtual CPU it drives. It lies at the
// start of a block of GROUP_BLOCK bytes that also holds the partner's stacks, so that any code of
// the core, signal handlers included, finds its group from the stack pointer alone: the
// partner's FS and GS bases may be the program's.
struct ros_group {
    // Known to assembly by offset.
    uint32_t signal_pending; // `signal` waits for delivery; all asynchronous signals are blocked
    uint32_t debug_pending;  // a debugger wants the group to stop; no system call begins
    uint32_t busy;           // 0: free for a new thread; set to 0 as a thread's very last act
    uint64_t restart_rax;    // RAX with which to begin an interrupted system call again

    struct hvm_vcpu vcpu;
    struct mv_frame *frame;
    struct mv_trap *trap;
    struct mv_slot *slot;
    struct mv_stamp *stamp;
    struct mv_signals *signals;
    struct ak_identity *identity;
    uint32_t server;          // who acts for the group (channel.h)
    bool timed_out;           // the request that was collected last had not been taken
    struct poller *served_by; // the poller that acted for it last
    uint64_t rights;          // pollers with the same number may act for the group; 0: none may
    uint64_t rewrite;         // address behind a SYSCALL that the partner shall rewrite, or 0
    struct poller *poller;    // not NULL: this is no group but the memory of a poller
    char *tables_page, *ist_page, *cpu_page;
    uint64_t window;
    uint64_t fs_base, gs_base; // the program's, as last loaded by ROS_LOAD or read
    enum ros_resume resume;
    enum ros_xsave_place xsave_place;
    uint32_t cpu_node; // what getcpu reports: cpu | node << 12

    struct ros_sighand *sighand;
    struct ros_signal signal; // if signal_pending, or
    uint32_t signal_kept;     // for a moment, in which a call begins all the same (override_exit.c)
    ros_sigset signal_mask;   // if signal_pending: the mask to go back to
    ros_sigset partner_mask;  // of a thread that begins: its partner's
    ros_sigset temporary_mask; // mask of a sigsuspend and its kin, if has_temporary_mask
    bool has_temporary_mask;
    uint64_t clone_flags;    // by which its thread was made
    bool private_files;      // descriptor table not shared with the other groups
    ros_sigset pending_sync; // sent by somebody while blocked
    bool unseen; // a signal has come that the program does not see: what it ended begins again
    siginfo_t sync_info[ROS_SYNC_COUNT];
    struct ros_passed_on {
        siginfo_t info;
        uint32_t there;
    } passed_on[ROS_SYNC_COUNT]; // signals that pollers have got, for this thread
    stack_t altstack;            // the program's

    // Of a native thread that has entered the HRT: where it goes on natively.
    struct mv_context native_context;
    bool entered;
    bool calls_natively; // a function of the program's; its signals are as a native thread's

    volatile bool replicating;
    struct mv_context replicate_context;
    struct ros_signal *replicate_result;
    uint64_t copied_code; // a page for code that is replicated and not Linux's, or 0

    struct {
        uint32_t pid, tid;
    } id; // of the partner

    // What another thread's crash report says of this one: its virtual CPU when it was stopped.
    struct {
        uint64_t rip, rsp, rbp;
        uint32_t known;
    } stopped;

    // Of a program that is debugged (debug.c).
    struct {
        bool stepping;      // the virtual CPU goes on with the trap flag set, from step_from
        bool own_flag;      // the trap flag is not the program's, too
        uint64_t step_from; // RIP
        uint32_t unasked;   // a signal that the debugger itself has sent, or 0
        struct {
            bool again;              // the call begins again, having begun first at `begin`
            bool cut_short;          // it was interrupted by the signal that is pending
            uint64_t nr, rip, begin; // begin: CLOCK_MONOTONIC, ns
        } call;
    } debug;

    // The fault that a handler's frame has been made room for last (loop.c).
    struct ros_handler_try {
        uint64_t rip, rsp, address;
    } handler_try;

    // Of a virtual CPU that may stay in the guest for ever (watch.c).
    struct {
        uint32_t entries; // how often it has entered the guest
        uint32_t seen;    // `entries`, when the watch last looked
        uint32_t kicked;  // a signal of the watch's is on its way
    } watch;

    struct ros_visit visit; // if there is a profile

    uint32_t recent_next; // where in `recent` the next event goes
    struct ros_recent recent[ROS_RECENT] __attribute__((aligned(64)));

    char xsave[HVM_XSAVE_BYTES] __attribute__((aligned(64)));
    char native_frame[KIB(12)] __attribute__((aligned(64)));
};

enum {
    GROUP_BLOCK = KIB(128),
    GROUP_ALTSTACK = KIB(32),
    GROUP_ALTSTACK_SIZE = KIB(32),
    GROUP_STACK_GUARD = KIB(64),
    GROUP_STACK = GROUP_STACK_GUARD + PAGE_SIZE,
};

static inline struct ros_group *ros_self(void)
{
    uint64_t sp;
    __asm__("mov %%rsp, %0" : "=r"(sp));
    return (struct ros_group *)ALIGN_DOWN(sp, GROUP_BLOCK);
}

// What the whole process (strictly: the address space) shares.
struct ros_process {
    struct hvm hvm;
    unsigned ring;
    bool interpreted; // the substrate interprets code at CPL 0: a software KVM
    bool hybrid;      // a VM exists
    bool follow;      // execve starts an HRT again
    bool quiet;
    bool attached;                  // to a process that was there before (main/attach.c)
    const char *core_path, *config; // for follow
    char exe_path[4096];            // what /proc/self/exe shall say
    bool exe_by_kernel;             // the kernel says it already
    int leader_status;              // with which the process's first thread ended, if it did
};
extern struct ros_process ros;

// group.c ------------------------------------------------------------------------------------

// A free group with a virtual CPU in the current VM, its sighand unset. Errors: -EAGAIN no
// virtual CPU is left, -ENOMEM.
int ros_group_acquire(struct ros_group **ret);
// Give a group back whose thread is gone (or never came to be).
void ros_group_release(struct ros_group *group);
// Begin with a native thread, which has acquired the group: signals are blocked, the extended state
// is a fresh program's.
void ros_group_begin_native(struct ros_group *group, struct ros_sighand *sighand, uint64_t fs_base,
                            uint64_t gs_base);
// The partner's end: give the group back and leave the thread.
_Noreturn void ros_group_exit(struct ros_group *group, int status);
// Make the virtual CPU of this group in a new VM; used by hybrid forked children.
int ros_group_revive(struct ros_group *group);
// Tell a group that exists already at which ring the program runs.
int ros_group_set_ring(struct ros_group *group);
// Where the calling thread runs: cpu | node << 12, as in group->cpu_node.
uint32_t ros_cpu_node(void);
// The partner may have moved to another CPU: make getcpu in the program say so.
void ros_group_follow_cpu(struct ros_group *group);
// In a forked child: forget the virtual CPUs of all groups but this one, whose threads are gone.
void ros_groups_after_fork(struct ros_group *self);
unsigned ros_groups_alive(void);
// With the groups' lock held: true if a thread has the group and has not begun to end.
bool ros_group_runs(const struct ros_group *group);
// All groups that there have ever been, the free ones included.
unsigned ros_groups_count(void);
struct ros_group *ros_group_at(unsigned index);
// The address space of a group: its block, then the run area of its virtual CPU.
int ros_group_make_block(struct ros_group **ret);
void ros_groups_lock(void);
void ros_groups_unlock(void);

// space.c: the superposition of the address space --------------------------------------------

// Make the tables and the AeroKernel's own memory, and the VM's first slot.
int ros_space_init(void);
// Again in a new VM, after fork: all slots.
int ros_space_revive(void);
// Merge the window around `address`. Returns 0, -ENOMEM, -ENOSPC (slots or guest physical space
// used up), or -EFAULT where nothing may be merged.
int ros_space_merge(uint64_t address);
// Merge a range, and let it be executed if `executable`.
int ros_space_merge_range(uint64_t start, uint64_t size, bool executable);
// True if a window covers the address.
bool ros_space_covers(uint64_t address);
bool ros_space_executable(uint64_t address);
uint64_t ros_space_root(void);
// True if the page tables at guest physical address `root`, which may be anything, lead to an entry
// for the address, present or not. Where they lead to no memory KVM tries for ever, without an
// exit.
bool ros_space_has_tables(uint64_t root, uint64_t address);
// The page that tells all virtual CPUs about the channel.
struct mv_control *ros_space_control(void);
// Guest physical address of the doorbell page.
uint64_t ros_space_doorbell(void);
// Pages of the AeroKernel's memory for the window of virtual CPU `id`.
int ros_space_make_window(unsigned id, struct ros_group *group);
void ros_space_lock(void);
void ros_space_unlock(void);
// What depends on ros.ring, once it is known: the IDT, and that ring 3 cannot write to the tables.
void ros_space_set_ring(void);
// True if rip lies in the AeroKernel's image.
bool ros_space_is_kernel(uint64_t rip);
// With the lock held: have the HRT's tables forbid writes, or all accesses, to a range that Linux
// forbids; and no more, before Linux changes what is mapped there. The latter may be -ENOMEM.
void ros_space_guard(uint64_t start, uint64_t size, bool reads);
int ros_space_unguard(uint64_t start, uint64_t size);
// With the lock held: what the program has claimed in a range counts no more, since Linux has
// changed what is mapped there. Not before: Linux may refuse.
void ros_space_unclaim(uint64_t start, uint64_t size);
// With the lock held: forbid or allow execution of a range.
void ros_space_forbid_execute(uint64_t start, uint64_t size);
int ros_space_allow_execute(uint64_t start, uint64_t size);
// Without the lock: a number to take before Linux is asked to execute something, and to give back
// when it has. Then the range may be executed, unless a call has meanwhile forbidden that
// somewhere.
uint64_t ros_space_forbidden(void);
void ros_space_has_executed(uint64_t start, uint64_t size, uint64_t before);
// Memory is about to be unmapped that nobody names: what is mapped from now on may be where the
// tables still allow execution, or guard. Asked without the lock.
void ros_space_expect_leftovers(void);
bool ros_space_has_leftovers(void);
// The program uses the AeroKernel's interface: it may claim pages, and expects faults.
void ros_space_attach(void);
bool ros_space_is_attached(void);
// True if the HRT's tables, too, forbid such an access, once changes under way are done.
bool ros_space_is_guarded(uint64_t address, bool write);
// Merge a range and have it translated page by page. Returns 0, -ENOMEM, -ENOSPC or -EFAULT.
int ros_space_split(uint64_t start, uint64_t size);
// True if the page tables let something be accessed at an address.
bool ros_space_translates(uint64_t address);
// True if the program has claimed the page of the address against such an access.
bool ros_space_is_claimed(uint64_t address, bool write);
// Tell a debugger where the tables and the AeroKernel are.
struct mv_debug;
void ros_space_describe(struct mv_debug *ret);
// The number of windows, each a slot.
unsigned ros_space_windows(void);
// Map all windows in other page tables, to measure what that takes. Returns 0 or -ENOMEM.
int ros_space_fill(struct ak_paging *paging);

// The same for override modules: their image, `text` bytes of code and then data.
int ros_space_load_modules(const char *image, uint64_t text, uint64_t data);
// The page of wrappers, by system call (AK_OVERRIDES_PAGE), and a word of the modules' data, or
// NULL if the address is none.
uint64_t *ros_space_wrappers(void);
uint64_t *ros_space_module_word(uint64_t address);
// Copy code at rip, which is the AeroKernel's or a module's. Returns how many bytes there are.
uint64_t ros_space_read_code(uint64_t rip, uint8_t *ret, uint64_t size);

// override.c: modules that take over system calls and functions (docs/overrides.md) -----------

// Take what the command line gives in a file (abi/override.h). Returns 0, -EPROTO if it is not
// that, or the error of reading it.
int ros_override_open(int fd);
// The same of a blob in memory, which is copied.
int ros_override_take(const char *blob, uint64_t size);
// Take over functions of a program that was linked for it. Returns 0, -E2BIG or -ENOMEM.
int ros_override_link(const struct mv_fat_link *links, uint64_t count);
// The descriptor of that file, for a program that this one executes, or -1.
int ros_override_file(void);
// Put the modules into the HRT, whose space and channel are there. Returns 0 or a negative errno.
int ros_override_load(void);
// True if threads' masks may be known in the HRT only, for a while. It stays so.
bool ros_override_defers_masks(void);
// True if a module is asked first about system call nr, which is below MV_ROUTES.
bool ros_override_answers(unsigned nr);
// A file has been mapped to be executed, and no thread has done so: take over what modules want of
// it. offset: in the file, of `start`.
void ros_override_mapped(uint64_t start, uint64_t size, int fd, uint64_t offset);
// The process leaves the HRT: what has been taken over is the legacy function again.
void ros_override_leave(void);
// The calling thread may be another to Linux than it was.
void ros_override_identify(struct ros_group *group);
// Before a fork: wait until no other thread is in an answer, and let none begin; and afterwards, in
// both processes.
void ros_override_close(const struct ros_group *self);
void ros_override_reopen(void);

// populate.c ---------------------------------------------------------------------------------

// Whether memory is populated ahead, on a machine with so many bytes of memory.
void ros_populate_init(bool on, uint64_t ram);
// By system call nr Linux has just given private anonymous memory to the program, which may write
// to it: have the pages there that it is going to use.
void ros_populate(const struct ros_group *group, uint64_t nr, uint64_t start, uint64_t end);
// A private, writable mapping of a file that a loader has just made: give the program its own copy
// of the pages, of which it writes to most. If they came as they are touched, each would be a fault
// to read it, another to write, and a shoot-down of the first's translation on every CPU. (Whether
// what is written to the file later shows there is unspecified, mmap(2).)
void ros_populate_data(const struct ros_group *group, uint64_t start, uint64_t size);
// From now on no memory is populated.
void ros_populate_end(void);
// With the lock of the space held: a range is about to be unmapped.
void ros_populate_forget(uint64_t start, uint64_t size);

// override_exit.c ----------------------------------------------------------------------------

// True if a module answers a system call on the group's virtual CPU: events are the module's.
bool ros_override_runs(const struct ros_group *group);
// True if signals have to wait, for that or another reason of a module's.
bool ros_override_holds(const struct ros_group *group);
// What the page fault's entry has pushed last (aerokernel/entry.S), by words from the stack's top.
enum ros_pushed {
    ROS_PUSHED_RSP = 2,
    ROS_PUSHED_RFLAGS = 3,
    ROS_PUSHED_RIP = 5,
    ROS_PUSHED_ERROR = 6,
    ROS_PUSHED_RDX = 7,
    ROS_PUSHED_RCX = 8,
    ROS_PUSHED_CR2 = 9,
};
uint64_t ros_pushed(const struct ros_group *group, enum ros_pushed word);
// Answer an exit of such a virtual CPU, which goes on where it was.
void ros_override_exit(struct ros_group *group, struct hvm_exit exit);
// A system call of a module's, which no signal interrupts.
void ros_override_request(struct ros_group *group);

// loop.c -------------------------------------------------------------------------------------

// End the process: the virtual CPU cannot go on, with a crash report.
_Noreturn void ros_substrate_failed(struct ros_group *group, const char *what, uint64_t detail);
// Merge what Linux maps at an address, unless it is merged. Returns true if it had to be. Ends the
// process where guest physical space is used up.
bool ros_merge_missing(uint64_t address);

// The partner's loop: run the virtual CPU and answer its events until the thread ends.
_Noreturn void ros_loop(struct ros_group *group);

// measure.c ----------------------------------------------------------------------------------

// On the virtual CPU of a group whose program has not begun; its state is lost.

// Measure the asynchronous channel: TSC cycles from the doorbell in the program's ring to the
// partner and back. Returns 0 or -EIO.
int ros_measure_exit(struct ros_group *group, uint64_t *cycles);

// control.c ---------------------------------------------------------------------------------

// End here if the program has left the virtual CPU nothing to execute. state: as it was found.
void ros_control_check(struct ros_group *group, const struct hvm_state *state);
// True if the instruction at `rip` is SYSCALL, maybe with prefixes. Linux must not execute it: it
// would be the partner's own call, unseen.
bool ros_is_syscall(uint64_t rip);
// As ros_control_check(), for an invalid opcode at `rip` that is a SYSCALL.
void ros_control_check_syscall(struct ros_group *group, uint64_t rip);

// syscall.c and its tables -------------------------------------------------------------------

enum { SYSCALL_BYTES = 2 }; // of the instruction

// Result of a system call that did not take place because a signal came first.
#define ROS_INTERRUPTED INT64_MIN
// Result of a call that has set the frame itself.
#define ROS_FRAME_SET (INT64_MIN + 1)

struct ros_args {
    uint64_t a[6];
};

// Answer the system call in the frame.
void ros_syscall_dispatch(struct ros_group *group);
// Make a call: with the core's help where it needs some, else as it is.
int64_t ros_call(struct ros_group *group, uint64_t nr, struct ros_args *args);
// Execute a system call for the program, as the calling thread. Returns its result or
// ROS_INTERRUPTED.
int64_t ros_forward(struct ros_group *group, uint64_t nr, const struct ros_args *args);
// The same for calls that may wait for signals or be interrupted by them: meanwhile Linux holds
// those of ROS_SYNC_SIGNALS that the program blocks.
int64_t ros_forward_blocking(struct ros_group *group, uint64_t nr, const struct ros_args *args);
// The same for calls that Linux refuses to a process with more than one thread: a program with one
// gets rid of pollers and VM (a KVM may keep a thread of its own) while the call is made.
int64_t ros_call_alone(struct ros_group *group, uint64_t nr, const struct ros_args *args);

// True if the program's string at `path` names the link to its own file.
bool ros_is_exe_link(uint64_t path);
// Where a path argument names that link, and Linux has another file for it, put the file's real
// path.
void ros_replace_exe_link(struct ros_args *args, unsigned at);

// True if a descriptor that the call names is one of the core's: to the program these are not
// there.
bool ros_names_own_descriptor(const struct ros_group *group, uint64_t nr,
                              const struct ros_args *args);

typedef int64_t ros_handler(struct ros_group *group, uint64_t nr, struct ros_args *args);
ros_handler ros_sys_mmap, ros_sys_munmap, ros_sys_mprotect, ros_sys_mremap, ros_sys_range,
    ros_sys_brk, ros_sys_shmat, ros_sys_shmdt, ros_sys_pkey_alloc, ros_sys_sigaction,
    ros_sys_sigprocmask, ros_sys_sigaltstack, ros_sys_sigreturn, ros_sys_sigwaiting, ros_sys_clone,
    ros_sys_clone3, ros_sys_fork, ros_sys_execve, ros_sys_execveat, ros_sys_exit,
    ros_sys_exit_group, ros_sys_arch_prctl, ros_sys_prctl, ros_sys_seccomp, ros_sys_close,
    ros_sys_close_range, ros_sys_dup2, ros_sys_path, ros_sys_path_at, ros_sys_readlink,
    ros_sys_readlinkat, ros_sys_absent, ros_sys_rseq, ros_sys_waits_unseen, ros_sys_forbidden,
    ros_sys_aerokernel, ros_sys_unshare, ros_sys_setns, ros_sys_sigpending, ros_sys_userfaultfd,
    ros_sys_set_robust_list, ros_sys_signals_thread, ros_sys_signalfd;

// Have Linux protect a range that the program has claimed (ak_page_release()), and unclaim it.
// Returns what mprotect gives.
int64_t ros_release(const struct ros_group *group, uint64_t start, uint64_t size, uint64_t prot);

// robust.c -----------------------------------------------------------------------------------

// By the partner of a thread that clone has made with these flags, before it begins: give Linux the
// robust list that the thread will most likely ask for. 0 for what is not a new thread, and has no
// list that is known.
void ros_robust_begin(struct ros_group *group, uint64_t clone_flags);

// watch.c ------------------------------------------------------------------------------------

// Watch over virtual CPUs that do not leave the guest, at ring 0 in a process of the core's own; by
// a thread with the rights and the descriptors of the caller's.
void ros_watch_begin(void);
// End it, and wait until the thread is gone.
void ros_watch_end(void);
// The caller's rights or descriptors have changed.
void ros_watch_renew(void);
// In a forked child: there is none.
void ros_watch_forget(void);
// In a handler: true if the signal is the watch's, or one of the core's that is for nothing more.
bool ros_watch_kicked(struct ros_group *group, const siginfo_t *info);

// replicate.c --------------------------------------------------------------------------------

// Execute the program's next instruction natively, on the partner, as the paper's HVM library
// replicates an access. Returns 0 if it completed (state in the frame is after it), else a signal
// number, *ret being what Linux raised.
int ros_replicate(struct ros_group *group, struct ros_signal *ret);
// Called by the host's signal handler while group->replicating.
_Noreturn void ros_replicate_caught(struct ros_group *group, const siginfo_t *info,
                                    struct ucontext *uc);
// Leave the HRT for good: the thread goes on natively from the state in the frame, with the bases
// and the extended state that the group has saved.
_Noreturn void ros_leave(struct ros_group *group);

// copy.c: program memory ---------------------------------------------------------------------

// Copy from or to program memory. Return 0 or -EFAULT; the core's own memory is never touched.
int ros_copy_in(void *dst, uint64_t src, uint64_t size);
int ros_copy_out(uint64_t dst, const void *src, uint64_t size);
// Copy a string with its terminator. Returns its length, -EFAULT or -ENAMETOOLONG.
int64_t ros_copy_string(char *dst, uint64_t src, uint64_t size);

// asm.S --------------------------------------------------------------------------------------
int64_t ros_syscall_asm(struct ros_group *group, uint64_t nr, const uint64_t args[6]);
extern const char ros_syscall_begin[], ros_syscall_insn[], ros_syscall_end[],
    ros_syscall_interrupted[];
bool ros_mask_asm(const struct ros_group *group, const ros_sigset *mask);
extern const char ros_mask_begin[], ros_mask_end[];
int ros_copy_asm(void *dst, const void *src, uint64_t size);
extern const char ros_copy_begin[], ros_copy_end[], ros_copy_fault[];
_Noreturn void ros_native_enter(void *stack_pointer);
// fn(arg) on another stack, whose pointer is a multiple of 16.
int64_t ros_call_far_asm(uint64_t fn, uint64_t arg, uint64_t stack);
_Noreturn void ros_exit_asm(uint32_t *busy, int status);
void ros_restorer(void);
void ros_signal_entry(void);
// The handler behind ros_signal_entry (signal.c).
void ros_on_signal(int sig, siginfo_t *info, struct ucontext *uc);
// In a handler: a call between ros_syscall_begin and ros_syscall_end does not begin, and
// ros_mask_asm() looks again.
void ros_interrupt_syscall(struct ucontext *uc);

#endif
