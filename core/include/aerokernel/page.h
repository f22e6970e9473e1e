/// @file
/// Page-table services: forbid accesses, take the faults, see which pages have been touched or
/// written. At ring 0 they edit the HRT's own page tables and need no system call; Linux's mappings
/// stay as they are, so what is forbidden here Linux itself may still access in system calls. At
/// ring 3 protection goes through mprotect(2), and the rest does not exist. In a native program
/// there is no Linux; at ring 3 the monitor protects and counts, an exit each, and entries cannot
/// be read.
#ifndef AEROKERNEL_PAGE_H
#define AEROKERNEL_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AK_PAGE_SIZE 4096u

/// What a page allows.
enum ak_page_access {
    AK_PAGE_NONE = 0,
    AK_PAGE_READ = 1,
    AK_PAGE_WRITE = 2, ///< and read
};

/// Bits of a page-table entry that the processor sets.
enum ak_page_bits {
    AK_PAGE_ACCESSED = 1 << 5,
    AK_PAGE_DIRTY = 1 << 6,
};

/// Have [start, start + size) translated page by page, which the other functions need at ring 0.
/// The range is mapped readable and writable in Linux. It may take system calls; once is enough for
/// a range as long as it is not unmapped.
/// @return 0; -EINVAL: not whole pages of the lower half; -ENOMEM.
int ak_page_prepare(void *start, size_t size);

/// Set what the pages of a range allow.
/// @return 0; -EINVAL: not whole pages, or not prepared; at ring 3 what mprotect(2) gives.
int ak_page_protect(void *start, size_t size, enum ak_page_access access);

/// Whether the page tables can be edited: false at ring 3, and wherever a write to them, which
/// changes nothing, fails. For answers to system calls (override.h) only.
bool ak_page_editable(void);

/// Take over the protection of a range that Linux has protected: from now on the page tables alone
/// forbid what `access` does not allow, ak_page_protect() changes it, and to Linux the pages are
/// readable and writable. At no moment is more allowed than by both.
/// @return 0; -EPERM at ring 3; -EINVAL, -ENOMEM as ak_page_prepare(); what mprotect(2) gives if
/// Linux does not allow it: its protection of the range is undefined then.
int ak_page_adopt(void *start, size_t size, enum ak_page_access access);

/// The reverse: Linux protects the range, and the page tables leave it to Linux. At no moment is
/// more allowed than before and after.
/// @return 0; -EINVAL: not whole pages; what mprotect(2) gives: nothing has changed in the tables.
int ak_page_release(void *start, size_t size, enum ak_page_access access);

/// The page-table entry that translates an address, as the processor sees it.
/// @return 0; -ENOENT: there is none; -EPERM at ring 3.
int ak_page_entry(const void *address, uint64_t *ret);

/// The page of page tables at a physical address, as CR3 and entries give it, to read.
/// @return NULL at ring 3, and where no page tables are.
const uint64_t *ak_page_table(uint64_t physical);

/// Count the pages of a range in whose entries all of `bits` are set, and clear these bits in the
/// whole range if `clear`.
/// @return the number; -EINVAL: not whole pages, or not prepared; -EPERM at ring 3 of an HRT.
long ak_page_test(void *start, size_t size, unsigned bits, bool clear);

/// A fault in a range with a handler.
struct ak_fault {
    uint64_t address; ///< that was accessed
    uint64_t rip;     ///< of the instruction
    bool write;
};

/// Called at the fault, on the stack of the program that caused it, like a signal handler.
/// @return true: the instruction shall be tried again; false: SIGSEGV, or a native program's end.
typedef bool ak_fault_fn(const struct ak_fault *fault, void *arg);

/// Have fn(fault, arg) called for faults in [start, start + size) that ak_page_protect() causes.
/// @return 0; -EINVAL: not whole pages; -EEXIST: overlaps another; -ENOSPC: there are 64 already.
int ak_fault_handle(void *start, size_t size, ak_fault_fn *fn, void *arg);
/// No more. @return 0; -ENOENT: none begins there.
int ak_fault_unhandle(void *start);

#ifdef __cplusplus
}
#endif

#endif
