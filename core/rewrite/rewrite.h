// Rewriting of hot system-call sites, so that the entry costs a jump and not a trap.
//
// A site is rewritten after its SYSCALL instruction has been seen to trap often, so nothing about
// the program's code is guessed. SYSCALL and the first bytes of the instruction behind it become a
// jump to a stub, which holds a copy of that instruction. The third byte of the jump is one that no
// instruction begins with (0x06): whoever comes to the address behind the SYSCALL, by a jump or by
// returning from a call that was under way, traps, and is sent on in the stub. The stub asks the
// GS base whether it runs in the HRT and otherwise executes SYSCALL. docs/channel.md has the whole.
#ifndef MV_REWRITE_REWRITE_H
#define MV_REWRITE_REWRITE_H

#include "base/types.h"

// Allow rewriting; without this call the functions below find nothing to do.
void rw_enable(void);

// Put all sites back, and rewrite none until rw_enable(). Returns true if that was allowed.
bool rw_disable(void);

// True if the SYSCALL before `after` may be worth a try.
bool rw_may_rewrite(uint64_t after);

// True for a prefix that SYSCALL ignores.
bool rw_is_prefix(uint8_t byte);

// Count a trap at the SYSCALL before `after`. Returns true when it ought to be rewritten.
bool rw_is_hot(uint64_t after);

// Rewrite the SYSCALL before `after`, by a partner, if that is possible.
void rw_rewrite(uint64_t after);

// Where the program believes to be when the virtual CPU is at rip: an address in a stub stands for
// one at the original site.
uint64_t rw_program_rip(uint64_t rip);

// The address behind the site if the virtual CPU is where a stub's call returns to, but RCX has not
// become that address yet; else 0.
uint64_t rw_returned(uint64_t rip);

// Where the virtual CPU shall go on when the program is at rip: behind a rewritten SYSCALL that is
// an address in the stub.
uint64_t rw_resume_rip(uint64_t rip);

// An invalid opcode at rip: if that is our doing, where to go on, else 0.
uint64_t rw_trapped(uint64_t rip);

// True if rip is in a stub, on the way to its call.
bool rw_in_stub(uint64_t rip);

// The SYSCALL instruction of the stub that rip is in.
uint64_t rw_syscall_of(uint64_t rip);

// Put all sites of a range back: before the program moves its code or protects it otherwise than as
// readable and executable, or goes on natively. With the lock held, until Linux has done that.
void rw_restore(uint64_t start, uint64_t size);

// Nothing is rewritten or put back meanwhile. Taken before ros_space_lock().
void rw_lock(void);
void rw_unlock(void);

#endif
