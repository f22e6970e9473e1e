// mprotect(2) for memory that is protected again and again, as garbage collectors do it to see
// writes. Such pages become ours: Linux has them readable and writable, and what the program may do
// to them the HRT's page tables say (ak_page_adopt). Before Linux executes a call that may access
// one, or that depends on its protection, the page becomes Linux's again, as the program has
// protected it. Where page tables are out of reach nothing is answered here.
#ifndef GC_H
#define GC_H

#include <aerokernel/override.h>

#define GC_SHM_REMAP 040000 // of linux/shm.h, which needs a C library

// The answer, or AK_FALLBACK.
int64_t gc_protect(void *address, uint64_t size, uint64_t prot);

// What is mapped in these ranges is about to change; of size 0: nowhere.
void gc_change(const void *address, uint64_t size, const void *also, uint64_t also_size);
// ... somewhere.
void gc_change_any(void);
void gc_break(const void *to);
// True if this advice changes no more than the contents of pages, whatever their protection.
bool gc_is_harmless(int advice);

// Descriptors may be about to become others.
void gc_forget_descriptors(void);

// Linux is about to execute a call, which may access the program's memory (calls.c).
void gc_before(const struct ak_call *call);

// From now on everything is Linux's: something may come to access memory, or depend on its
// protection, at any time.
void gc_stop(void);

#endif
