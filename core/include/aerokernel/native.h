/// @file
/// What only native programs have: those that `multiverse kernel build` links with the AeroKernel
/// alone. They begin in main() on virtual CPU 0. All other virtual CPUs are attached by then and
/// run what ak_thread_create() and ak_cpu_call() give them.
#ifndef AEROKERNEL_NATIVE_H
#define AEROKERNEL_NATIVE_H

#ifdef __cplusplus
extern "C" {
#endif

/// End the program, on any virtual CPU and thread. main()'s result does the same.
/// @param status what `multiverse kernel run` ends with: its low eight bits.
__attribute__((noreturn)) void ak_exit(int status);

#ifdef __cplusplus
}
#endif

#endif
