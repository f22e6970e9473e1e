// The HRT's page tables. They say where memory is in guest physical space and what may be
// executed; what is mapped at all, and what may be written, Linux says (see
// docs/architecture.md, "Memory").
#ifndef MV_AEROKERNEL_PAGING_H
#define MV_AEROKERNEL_PAGING_H

#include "base/types.h"

// Guest memory that page tables are made of: a host mapping of `size` bytes that the guest sees
// at guest physical address `gpa`, handed out page by page and never taken back.
struct ak_memory {
    char *host;
    uint64_t gpa, size, used;
};

// Take a zeroed page. Returns its host address, or NULL when the memory is used up.
void *ak_page_alloc(struct ak_memory *memory);
uint64_t ak_page_gpa(const struct ak_memory *memory, const void *page);

enum ak_access {
    AK_USER = 1 << 0,    // reachable at CPL 3
    AK_WRITE = 1 << 1,   // writable as far as the page tables are concerned
    AK_EXECUTE = 1 << 2, // instructions may be fetched
};

struct ak_paging {
    struct ak_memory *memory;
    uint64_t *root;
};

// Functions below that return int return 0 or -ENOMEM; -EINVAL if the HRT has spoilt its tables.
int ak_paging_init(struct ak_paging *paging, struct ak_memory *memory);

// Map one 4 KiB page.
int ak_map_page(struct ak_paging *paging, uint64_t va, uint64_t gpa, unsigned access);

// Map program memory [va, va+size), user, write, not executable, with 2 MiB leaves where a whole
// one fits. va and gpa are congruent modulo 2 MiB and page aligned; leaves already there are kept.
int ak_map_window(struct ak_paging *paging, uint64_t va, uint64_t gpa, uint64_t size);

// True if a leaf translates va and lets it be executed.
bool ak_is_executable(const struct ak_paging *paging, uint64_t va);

// Let the mapped pages of [va, va+size) be executed, splitting 2 MiB leaves into pages.
int ak_allow_execute(struct ak_paging *paging, uint64_t va, uint64_t size);

// Forbid it again. The change reaches a running virtual CPU when Linux's MMU notifiers take away
// the translations of the range, so the caller changes the mapping in Linux afterwards.
void ak_forbid_execute(struct ak_paging *paging, uint64_t va, uint64_t size);

// Forbid writes to [va, va+size), which has whole 2 MiB leaves, for good: before the virtual CPUs
// have used them.
void ak_forbid_writes(struct ak_paging *paging, uint64_t va, uint64_t size);

// Let the tables, too, forbid writes, or all accesses, to [va, va+size), which Linux forbids
// already: such a fault then comes with its address and without an exit.
int ak_guard(struct ak_paging *paging, uint64_t va, uint64_t size, bool reads);

// Leave it to Linux again, before Linux changes its mind.
int ak_unguard(struct ak_paging *paging, uint64_t va, uint64_t size);

// Forget the programs' own protection of [va, va+size).
void ak_unclaim(struct ak_paging *paging, uint64_t va, uint64_t size);

// True if va is guarded against such an access.
bool ak_is_guarded(const struct ak_paging *paging, uint64_t va, bool write);

// Have [va, va+size), all of it mapped, translated page by page.
int ak_split(struct ak_paging *paging, uint64_t va, uint64_t size);

// The leaf that translates va, large or not, or would if it were not guarded or claimed. Returns
// false if there is none.
bool ak_leaf(const struct ak_paging *paging, uint64_t va, uint64_t *ret);

// True if the entry is claimed and forbids such an access.
bool ak_is_claimed(const struct ak_paging *paging, uint64_t va, bool write);

// The entry of the page that va is in, or NULL if none translates it page by page. Others may
// change it at the same time, the processor among them.
uint64_t *ak_page_leaf(const struct ak_paging *paging, uint64_t va);

// Programs' own protection, and the bits that processors set. Every page of the range has to be
// translated page by page, or the answer is -EINVAL. changed: called for each page whose entry has
// changed, or NULL; *less is set if processors may still go by an entry that allowed, or said,
// more.
typedef void ak_changed(uint64_t va);
// Set what the pages allow. access: enum ak_page_access (include/aerokernel/page.h).
int ak_claim(struct ak_paging *paging, uint64_t va, uint64_t size, unsigned access,
             ak_changed *changed, bool *less);
// Count the pages with all of `bits` set, and clear these in the range. Returns the number.
long ak_count(struct ak_paging *paging, uint64_t va, uint64_t size, uint64_t bits, bool clear,
              ak_changed *changed, bool *less);

// Bits of an entry (Intel SDM volume 3, 4.5). While it is claimed, which is a bit of ours, what it
// forbids is the program's own protection.
#define AK_PTE_PRESENT (1ULL << 0)
#define AK_PTE_WRITE (1ULL << 1)
#define AK_PTE_LARGE (1ULL << 7)
#define AK_PTE_CLAIMED (1ULL << 10)
#define AK_PTE_ADDRESS 0x000ffffffffff000ULL

#endif
