// Functions of the program that somebody else takes over.
//
// Five bytes at the function's beginning become a jump to a stub nearby, which jumps on through a
// slot, to the new function. The stub also holds the instructions that have made room, and a jump
// to what follows them: there the function is as it was. Slots are switched to that when the
// process leaves the HRT, so that the jump itself can stay.
//
// Of an IFUNC it is the resolver that is taken over in this way. Its new function calls the legacy
// resolver, keeps what that chooses, and answers with a second stub, which jumps through its own
// slot: to the new function, and after the HRT to what was chosen. So every caller that the dynamic
// linker, or dlsym(3), binds to the IFUNC is bound to that stub.
#ifndef MV_REWRITE_FUNCTION_H
#define MV_REWRITE_FUNCTION_H

#include "base/types.h"

#include "abi/override.h"

// Take over the function at `at`, which no thread executes yet: function->bytes are there. It will
// jump to function->wrapper. Returns the address under which the legacy function can be called (of
// an IFUNC, the resolver), or 0: its code cannot be changed, or there is no memory within reach, or
// it is taken over already.
uint64_t rw_take_over(uint64_t at, const struct mv_override_function *function);

// Where the program believes to be when the virtual CPU is at rip: a stub's jumps stand for where
// they were jumped to from, and where they go. The instructions that have made room have no other
// address any more.
uint64_t rw_function_program_rip(uint64_t rip);

// Where the virtual CPU shall go on when the program is at rip: at the beginning of a function that
// has been taken over that is the stub, or a program that takes single steps would not get there.
uint64_t rw_function_resume_rip(uint64_t rip);

// Let all functions that have been taken over be legacy functions again.
void rw_give_back(void);

#endif
