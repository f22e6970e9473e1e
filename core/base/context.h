// Going back to a place on the stack, for the core and for libmultiverse.
#ifndef MV_BASE_CONTEXT_H
#define MV_BASE_CONTEXT_H

#include <stdint.h>

// Callee-saved registers, stack and address to go back to.
struct mv_context {
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
};

// 0 now, `value` when mv_context_restore() comes back here.
int mv_context_save(struct mv_context *context) __attribute__((returns_twice));
void mv_context_restore(struct mv_context *context, int value) __attribute__((noreturn));

#endif
