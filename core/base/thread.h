// Threads and stacks of the core's own (thread.c, thread.S).
#ifndef MV_BASE_THREAD_H
#define MV_BASE_THREAD_H

#include "base/types.h"

// clone or clone3 (nr) with args; the child, which has a stack of its own, calls start(arg).
int64_t mv_clone(uint64_t nr, const uint64_t args[5], void (*start)(void *), void *arg);
// A thread of the process that calls start(arg), which does not return, on the stack that ends at
// `stack`, with the caller's signal mask. Returns its number or a negative errno (clone(2)).
int64_t mv_thread(uint64_t stack, void (*start)(void *), void *arg);
// Go on in fn(arg), which does not return, on the stack that ends at `stack`.
_Noreturn void mv_call_on_stack(void (*fn)(void *), void *arg, uint64_t stack);

#endif
