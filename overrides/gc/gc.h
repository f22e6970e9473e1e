// mprotect(2) for memory that is protected again and again, as garbage collectors do it to see
// writes: Linux has such pages readable and writable for good, and what the program may do to them
// the HRT's page tables say (ak_page_adopt). At ring 3, where they are out of reach, nothing is
// answered here.
//
// Every function may return AK_FALLBACK: Linux answers.
#ifndef GC_H
#define GC_H

#include <stdbool.h>
#include <stdint.h>

#define GC_ALL ((1ULL << 47) - 4096) // the size of all that a program can have mapped
#define GC_PR_SET_SECCOMP 22         // of linux/prctl.h

int64_t gc_protect(void *address, uint64_t size, uint64_t prot);
int64_t gc_map(void *address, uint64_t size, uint64_t prot, uint64_t flags, uint64_t fd,
               int64_t offset);
int64_t gc_unmap(void *address, uint64_t size);
int64_t gc_remap(void *address, uint64_t old_size, uint64_t new_size, uint64_t flags, void *to);
int64_t gc_break(void *to);
// Have Linux protect a range as the program has asked, before a call that depends on it.
int64_t gc_tell(const void *address, uint64_t size);
// True if this advice changes no more than the contents of pages, whatever their protection.
bool gc_is_harmless(int advice);

#endif
