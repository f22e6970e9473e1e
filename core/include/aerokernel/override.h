/// @file
/// Override modules: C that takes over a system call or a function of an unmodified program. A
/// TOML file says what is taken over and what is called instead; `multiverse override` makes a
/// module of both (docs/overrides.md). This header is what the C may use besides the other headers
/// of the AeroKernel.
///
/// Functions that answer *system calls* run on the AeroKernel's stack, and nothing of the program
/// happens on their virtual CPU meanwhile: signals wait, and so does a fork of another thread. They
/// must be short, must not wait, and reach the program's memory by ak_copy_in() and ak_copy_out()
/// only. They are compiled for general registers only.
///
/// Functions that take over *functions* run as the legacy function would: on the program's stack,
/// interrupted by signals, with the program's memory at hand.
#ifndef AEROKERNEL_OVERRIDE_H
#define AEROKERNEL_OVERRIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The result by which a function leaves the answer to Linux, or to the legacy function. It has had
/// no effect. `fallback` in the TOML file allows it.
#define AK_FALLBACK INT64_MIN

/// Where the addresses end that a program can have memory at: Linux's TASK_SIZE_MAX.
#define AK_PROGRAM_END ((1ULL << 47) - 4096)

/// What a virtual CPU's program is to Linux. The values are those of the calling thread.
struct ak_identity {
    uint64_t epoch; ///< another number whenever this may be another thread, or process, or one with
                    ///< other rights: what has been remembered of it is no longer true
    uint32_t pid, tid;
    uint32_t cpu;     ///< of the AeroKernel, below AK_CPUS_MAX: one thread at a time is there
    uint64_t entries; ///< how often the thread has entered the virtual machine. While the number is
                      ///< the same, it has not waited for anything but a processor
};

/// The caller's. @return NULL where the program uses the GS base itself (fall back, then).
const struct ak_identity *ak_identity(void);

/// Copy from or to the program's memory, in answers to system calls.
/// @return 0; -EFAULT: the program may not access that; an unknown part has been copied.
int ak_copy_in(void *dst, const void *program, size_t size);
int ak_copy_out(void *program, const void *src, size_t size);
/// As ak_copy_in(), of a word that other threads may change: it is read at once.
int ak_load_in(uint32_t *dst, const uint32_t *program);

/// Have Linux execute a system call, whatever is overridden. In answers to system calls it must be
/// one that does not wait.
/// @return what Linux gives: a value or a negative errno.
int64_t ak_linux(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f);

/// How many bytes that the program has freed may be kept for it; more goes back to Linux
/// (`multiverse run --memory-high`).
uint64_t ak_memory_high(void);

/// Where Linux has put its vDSO, vdso(7), in the program's memory: an ELF file whose functions may
/// be called in answers to system calls, where the program has not done away with it. @return NULL
/// where there is none.
const void *ak_vdso(void);

/// What leaving the HRT and coming back takes, in cycles of the time-stamp counter, and how many
/// CPUs the program may run on; both as they were found at the start. For deciding how long to look
/// for what another thread does, before Linux is asked to wait for it.
uint64_t ak_exit_cycles(void);
unsigned ak_cores(void);

/// True if the program has asked Linux for something that may wait for its futexes without a
/// futex(2) of its own: io_uring_setup, futex_waitv, futex_wait, futex_requeue.
bool ak_unseen_waits(void);

/// rt_sigprocmask(2), in answers to it: a mask that blocks all signals, but for those that C
/// libraries use themselves, is kept in the HRT until Linux has to know it, which is at the next
/// call of the thread's that is not one of these: a clone() of a thread, which begins in the same
/// way; madvise(); exit(). A signal that comes meanwhile is given back to Linux, or lost if the
/// program ignores it.
/// @return 0; AK_FALLBACK: Linux has to answer, or to say what is wrong.
int64_t ak_signal_mask(int how, const uint64_t *set, uint64_t *old, size_t size);

/// Between these two, signals wait for a function that takes over a function, and so does a fork of
/// another thread, as always in answers to system calls. For the time that a lock is held which
/// other overrides take, too. They nest.
void ak_hold(void);
void ak_release(void);

/// A system call, in the wrappers that `multiverse override` generates.
struct ak_call {
    uint64_t nr;
    uint64_t arg[6];
    int64_t result;
};

/// Answer a call. @return false: Linux shall answer.
typedef bool ak_override_call(struct ak_call *call);

#ifdef __cplusplus
}
#endif

#endif
