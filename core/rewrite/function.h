// Functions of the program that somebody else takes over.
//
// Five bytes at the function's beginning become a jump to a stub nearby, which jumps on through a
// slot, to the new function. The stub also holds the instructions that have made room, and a jump
// to what follows them: there the function is as it was. Slots are switched to that when the
// process leaves the HRT, so that the jump itself can stay.
#ifndef MV_REWRITE_FUNCTION_H
#define MV_REWRITE_FUNCTION_H

#include "base/types.h"

#include "abi/override.h"

// Take over the function at `at`, which no thread executes yet: function->bytes are there. to: the
// address to jump to. Returns the address under which the legacy function can be called, or 0: its
// code cannot be changed, or there is no memory within reach, or it is taken over already.
uint64_t rw_take_over(uint64_t at, const struct mv_override_function *function, uint64_t to);

// Let all functions that have been taken over be legacy functions again.
void rw_give_back(void);

#endif
