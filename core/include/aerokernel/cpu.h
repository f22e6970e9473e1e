/// @file
/// Virtual CPUs: which one this is, data of its own, functions called on another one, and
/// registers that only a kernel may read.
///
/// Every thread of the Linux process (an execution group) drives one virtual CPU. A virtual CPU
/// runs AeroKernel threads whenever its own program waits in an AeroKernel function, or for good
/// in ak_cpu_serve(). In a native program each is a processor of the machine, and all but the first
/// do nothing else.
#ifndef AEROKERNEL_CPU_H
#define AEROKERNEL_CPU_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Virtual CPUs are numbered from 0 to AK_CPUS_MAX - 1.
#define AK_CPUS_MAX 1024u

/// Slots for data of its own that each virtual CPU has.
#define AK_CPU_SLOTS 32u

/// Connect the calling program to the AeroKernel. Every virtual CPU may call it, and one has to
/// before the program uses any other function of these headers.
/// @return 0; -ENOSYS: this is no HRT (natively, all other functions must not be called);
///         -EPROTONOSUPPORT: the AeroKernel is older than these headers; -ENOTSUP: the processor
///         has no FSGSBASE; -ENOMEM.
int ak_attach(void);

/// Privilege level that the program runs at: 0 or 3.
unsigned ak_ring(void);

/// Number of the virtual CPU that executes the caller.
unsigned ak_cpu(void);

/// How many virtual CPUs have attached themselves. Natively these are 0 to ak_cpu_count() - 1.
unsigned ak_cpu_count(void);

/// Value in a slot of this virtual CPU, NULL at first. slot: below AK_CPU_SLOTS.
void *ak_cpu_get(unsigned slot);
void ak_cpu_set(unsigned slot, void *value);

/// Run AeroKernel threads on this virtual CPU until ak_cpu_release() is called for it.
void ak_cpu_serve(void);
/// End ak_cpu_serve() on a virtual CPU; if it is not under way the next one returns at once.
/// @return 0; -EINVAL: no such virtual CPU has attached itself.
int ak_cpu_release(unsigned cpu);

/// Call a function on another virtual CPU (an interprocessor interrupt, as far as there are any
/// without interrupts): at its next scheduling point, on the stack of whoever is there. Returns
/// when the call is queued. The function must not wait.
/// @return 0; -EINVAL: no such virtual CPU has attached itself; -ENOMEM.
int ak_cpu_call(unsigned cpu, void (*fn)(void *), void *arg);

/// Control register 0, 2, 3, 4 or 8.
/// @return 0; -EPERM at ring 3; -EINVAL: no such register.
int ak_cr_read(unsigned number, uint64_t *ret);

/// Model-specific registers. One that does not exist raises SIGSEGV, as an instruction would.
/// @return 0; -EPERM at ring 3.
int ak_msr_read(uint32_t msr, uint64_t *ret);
int ak_msr_write(uint32_t msr, uint64_t value);

/// Performance-monitoring counter, by RDPMC. One that does not exist raises SIGSEGV.
/// @return 0; -EPERM at ring 3.
int ak_pmc_read(uint32_t counter, uint64_t *ret);

#ifdef __cplusplus
}
#endif

#endif
