// The seam below the AeroKernel: all that it needs of what it runs on. There are two
// implementations. In an HRT (platform_hrt.c) it is the program's Linux process, reached by system
// calls. For a native program (core/native/) it is the machine itself, virtual or emulated.
//
// Functions that return int return 0 or a negative errno.
#ifndef MV_AEROKERNEL_PLATFORM_H
#define MV_AEROKERNEL_PLATFORM_H

#include "abi/machine.h"
#include "aerokernel/xstate.h"
#include "base/types.h"
#include "include/aerokernel/page.h"

struct ak_local;

// Clock, page tables, number of virtual CPUs; it never changes place.
extern const struct mv_machine *ak_machine;

// ---- Memory -------------------------------------------------------------------------------------

// Arenas of memory begin at multiples of this, and are no larger.
#define AK_ARENA_BYTES MIB(128)

// Take memory that nobody has had, in whole pages, for an arena. Its first 64th is zero. Returns
// false without memory.
bool ak_platform_memory(uint64_t *start, uint64_t *size);

// ---- Virtual CPUs -------------------------------------------------------------------------------

// Stop the calling virtual CPU until ak_platform_wake() is called for it, or ns nanoseconds (~0:
// no limit) have passed, or for no reason; not at all if *cpu->asleep is no longer 1.
void ak_platform_sleep(struct ak_local *cpu, uint64_t ns);
// Wake a virtual CPU, which has set *cpu->asleep to 1; by now it is 0.
void ak_platform_wake(struct ak_local *cpu);

// The extended state that the virtual CPU of a window has.
struct ak_xstate ak_platform_xstate(const char *window);

// ---- The outside --------------------------------------------------------------------------------

// Write bytes to the console.
void ak_platform_write(const char *bytes, size_t size);
// End all: a thread has overrun its stack, and what else it has overwritten is unknown.
_Noreturn void ak_platform_overrun(void);

// ---- Page tables; ranges are whole pages of the lower half --------------------------------------

// Have a range translated by 4 KiB pages.
int ak_platform_prepare(uint64_t start, uint64_t size);
// Have the other virtual CPUs forget what they know of a range's entries; Linux's mapping becomes
// readable and writable. Returns 0 or what Linux says.
int ak_platform_drop(uint64_t start, uint64_t size);
// Have Linux protect a range, and then unclaim its entries.
int ak_platform_release(uint64_t start, uint64_t size, enum ak_page_access access);
// At ring 3, where the tables are out of reach: ak_page_protect() and ak_page_test().
int ak_platform_protect(uint64_t start, uint64_t size, enum ak_page_access access);
long ak_platform_test(uint64_t start, uint64_t size, unsigned bits, bool clear);

#endif
