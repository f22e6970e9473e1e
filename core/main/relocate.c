// The core moves into its region before it does anything else: there its memory is one range that
// the HRT is never shown, away from whatever the kernel mapped next to the executable.
//
// Until the jump nothing here may use a pointer that the linker left to be relocated.

#include <linux/elf.h>
#include <linux/mman.h>
#include <linux/resource.h>

#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "main/main.h"
#include "ros/ros.h"

#define R_X86_64_RELATIVE 8
#define REGION_BYTES GIB(2)
#define REGION_BYTES_LIMITED MIB(160) // where RLIMIT_AS counts every reserved byte

extern const char __ehdr_start[], _end[];
extern const Elf64_Dyn _DYNAMIC[];
__attribute__((visibility("hidden"))) extern const char __ehdr_start[], _end[];

// Below where Linux, which randomises 1 TiB, begins to map, so that the program finds the top of
// the address space as it is natively; but within the 1.5 TiB below the stack in which
// ThreadSanitizer suffers mappings that it did not make (compiler-rt, tsan_platform.h: HiAppMem).
#define REGION_BELOW_STACK (GIB(1024) + GIB(256))

_Noreturn static void fail(struct mv_adoption *adoption, const char *what, long err)
{
    if (adoption)
        mv_adopt_refuse(adoption, what, (int)err);
    mv_die(MV_EXIT_FAILURE, "run: %s: %s; raise the limit (ulimit -v) or free some", what,
           mv_strerror(err));
}

static uint64_t reserve(struct mv_adoption *adoption, uint64_t stack, uint64_t *size)
{
    struct rlimit64 limit = {.rlim_cur = RLIM64_INFINITY};
    sys4(__NR_prlimit64, 0, RLIMIT_AS, 0, &limit);
    *size = limit.rlim_cur == RLIM64_INFINITY ? REGION_BYTES : REGION_BYTES_LIMITED;
    uint64_t hint = ALIGN_DOWN(stack - REGION_BELOW_STACK, PAGE_SIZE);
    uint64_t at = sys_mmap(hint, *size + LEAF_SIZE, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys_failed(at))
        fail(adoption, "reserving address space", (long)at);
    uint64_t start = ALIGN_UP(at, LEAF_SIZE), end = start + *size;
    if (start > at)
        sys2(__NR_munmap, at, start - at);
    if (at + *size + LEAF_SIZE > end)
        sys2(__NR_munmap, end, at + *size + LEAF_SIZE - end);
    return start;
}

static void apply_relocations(uint64_t base)
{
    const Elf64_Dyn *dynamic = _DYNAMIC;
    uint64_t table = 0, size = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_RELA)
            table = dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_RELASZ)
            size = dynamic->d_un.d_val;
    }
    const Elf64_Rela *rela = (const Elf64_Rela *)(base + table);
    for (uint64_t i = 0; i < size / sizeof(*rela); i++)
        if (ELF64_R_TYPE(rela[i].r_info) == R_X86_64_RELATIVE)
            *(uint64_t *)(base + rela[i].r_offset) = base + (uint64_t)rela[i].r_addend;
}

void mv_relocate(struct mv_adoption *adoption, uint64_t *stack)
{
    uint64_t old = (uint64_t)__ehdr_start, image = ALIGN_UP((uint64_t)_end - old, PAGE_SIZE), size;
    uint64_t base = reserve(adoption, (uint64_t)stack, &size);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)old;
    const Elf64_Phdr *phdr = (const Elf64_Phdr *)(old + header->e_phoff);
    if (adoption) {
        adoption->region = base;
        adoption->region_size = size;
    }
    if (sys3(__NR_mprotect, base, image, PROT_READ | PROT_WRITE))
        fail(adoption, "memory for the core", -ENOMEM);
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD)
            memcpy((char *)base + phdr[i].p_vaddr, (const char *)old + phdr[i].p_vaddr,
                   phdr[i].p_filesz);
    apply_relocations(base);
    struct mv_region *region = (struct mv_region *)(base + ((uint64_t)&mv_region - old));
    *region = (struct mv_region){.start = base, .end = base + size, .used = image};
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD && !(phdr[i].p_flags & PF_W)) {
            uint64_t start = ALIGN_DOWN(phdr[i].p_vaddr, PAGE_SIZE);
            uint64_t end = ALIGN_UP(phdr[i].p_vaddr + phdr[i].p_memsz, PAGE_SIZE);
            sys3(__NR_mprotect, base + start, end - start,
                 PROT_READ | (phdr[i].p_flags & PF_X ? PROT_EXEC : 0));
        }
    void (*go)(struct mv_adoption *, uint64_t *, uint64_t, uint64_t) = (void (*)(
        struct mv_adoption *, uint64_t *, uint64_t, uint64_t))(base + ((uint64_t)mv_arrive - old));
    go(adoption, stack, old, image);
    __builtin_unreachable();
}
