// User-space exec: what execve(2) does with a file, done inside the process.
#ifndef MV_LOADER_ELF_H
#define MV_LOADER_ELF_H

#include "base/types.h"

enum { LDR_SEGMENTS_MAX = 64, LDR_PATH_MAX = 4096 };

// A file to be mapped, checked: what elf_open() learned of it.
struct ldr_image {
    int fd;
    bool fixed;                // ET_EXEC: addresses are absolute
    uint64_t entry, low, high; // as in the file; low and high are page aligned
    uint64_t phdr, phnum;      // virtual address (0: not mapped) and count of program headers
    bool stack_executable;
    char interp[LDR_PATH_MAX]; // empty: none
    unsigned segments;
    struct ldr_segment {
        uint64_t start, file_size, memory_size, offset;
        int prot; // PROT_*
    } segment[LDR_SEGMENTS_MAX];
    uint64_t bias; // added to every address; set by ldr_map()
};

// Open and check an executable. Returns 0; -ENOEXEC for what is no x86-64 ELF (*why says what), or
// the error of open, stat or read.
int ldr_open(const char *path, struct ldr_image *ret, const char **why);

// Map the segments; the file stays open. at: where a position-independent image shall go (0:
// wherever). Returns 0 or a negative errno.
int ldr_map(struct ldr_image *image, uint64_t at);

#endif
