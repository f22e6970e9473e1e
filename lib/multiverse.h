/// @file
/// The accelerator model: a process makes a hybrid runtime (HRT) for itself, while it runs, and
/// calls single functions in it, on its live data: a pointer means the same on both sides.
/// Everything else of the process goes on natively.
///
///     #include <multiverse.h>
///     struct mv_hrt *hrt;
///     if (mv_hrt_create(NULL, &hrt))
///         errx(1, "%s", mv_error());
///     mv_hrt_call(hrt, &result, (void *)sum, 2, (uint64_t[]){(uint64_t)array, length});
///     mv_hrt_destroy(hrt);
///
/// Link with -lmultiverse (pkg-config multiverse). All functions may be called on any thread.
/// Functions that return int return 0 or a negative errno, of which mv_error() tells more.
#ifndef MULTIVERSE_H
#define MULTIVERSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// An HRT. There is one at a time in a process.
struct mv_hrt;

enum mv_hrt_flags {
    /// Where no HRT can be made, call functions natively, on the same threads. A wrong option is
    /// an error all the same.
    MV_HRT_NATIVE = 1,
};

/// How an HRT shall be; zero means the default.
struct mv_hrt_options {
    unsigned threads;   ///< that execute functions, a virtual CPU each: 1 to 64; default 1
    unsigned flags;     ///< enum mv_hrt_flags
    size_t stack_size;  ///< of each, bytes; default 8 MiB
    const char *core;   ///< path of multiverse-core; default: the one beside this library
    const char *config; ///< for multiverse-core, comma-separated key=value; default empty
};

/// What an instruction raised in the HRT.
struct mv_fault {
    int signal, code; ///< as in siginfo_t
    uint64_t address; ///< si_addr
    /// In the order of <sys/ucontext.h>: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip,
    /// flags.
    uint64_t registers[18];
    unsigned frames; ///< how many of:
    uint64_t backtrace[32];
};

/// A call of any function that takes integers, pointers and doubles (or floats: their bits in the
/// lower half of a double), and what became of it. Arguments are where the System V ABI has them.
struct mv_call {
    void *function;
    uint64_t integers[6];
    double reals[8];
    const uint64_t *stack; ///< arguments that are passed in memory
    size_t stack_count;
    uint64_t result[2];    ///< RAX, RDX
    double real_result[2]; ///< XMM0, XMM1
    struct mv_fault fault; ///< if the status is -EFAULT
};

/// Make an HRT.
/// @param options NULL for the defaults.
/// @return 0; -EBUSY: there is one; -ENOENT, -EACCES, -ENODEV: no /dev/kvm to be used;
///         -ENOTSUP: the processor has no FSGSBASE; -EINVAL: a wrong option; -ENOMEM;
///         -EAGAIN: no more threads.
int mv_hrt_create(const struct mv_hrt_options *options, struct mv_hrt **ret);

/// The ring that functions run at: 0 or 3; -1 where they are called natively (MV_HRT_NATIVE).
int mv_hrt_ring(const struct mv_hrt *hrt);

/// Call a function in the HRT and wait for its end. It runs on a thread of the HRT, with the
/// caller's thread-local storage, errno included. It may make system calls and call whatever the
/// process has; it must return, and not by longjmp or an exception. Within the HRT this is an
/// ordinary call.
/// @param result of the function; NULL if it is not wanted.
/// @param count of args, integers or pointers: at most 6.
/// @return 0; -EFAULT: an instruction has raised a signal, see mv_fault_last(); -EINVAL;
///         -ESHUTDOWN: the HRT is no more; -ECHILD: it belongs to the parent of this process.
int mv_hrt_call(struct mv_hrt *hrt, uint64_t *result, void *function, unsigned count,
                const uint64_t *args);

/// The same for any function; results and fault go into `call`.
int mv_hrt_invoke(struct mv_hrt *hrt, struct mv_call *call);

/// A call that is under way.
struct mv_task;

/// Begin a call without waiting for it. It has the thread-local storage of its thread of the HRT.
/// @param call belongs to the HRT until mv_task_join().
int mv_hrt_submit(struct mv_hrt *hrt, struct mv_call *call, struct mv_task **ret);
/// Wait for the end of a call, and free the task. @return as mv_hrt_invoke().
int mv_task_join(struct mv_task *task);
/// True if its end has come, so that mv_task_join() does not wait.
bool mv_task_done(const struct mv_task *task);

/// From a function that runs in the HRT: call fn(arg) natively, on the same stack and with the same
/// thread-local storage. Outside of it this is an ordinary call.
uint64_t mv_ros_call(uint64_t (*fn)(void *), void *arg);

/// True on a thread of the HRT.
bool mv_in_hrt(void);

/// Make virtual machine and threads of the HRT anew. Waits for calls that are under way.
int mv_hrt_reboot(struct mv_hrt *hrt);

/// End the HRT; waits for calls that are under way. @return 0; -EBUSY: called within it.
int mv_hrt_destroy(struct mv_hrt *hrt);

/// The fault that ended the calling thread's last mv_hrt_call().
const struct mv_fault *mv_fault_last(void);

/// What failed last on the calling thread, on what, and what to do: one line.
const char *mv_error(void);

#ifdef __cplusplus
}
#endif

#endif
