// What a fat binary carries and how its core is entered: the interface between the code that is
// linked into a program (core/fat/) and the core that it carries. Also read by assembly and, for
// the note, by src/multiverse/toolchain/.
//
// Both come from one installation and lie in one file; the version tells a file that somebody has
// put together from two.
#ifndef MV_ABI_FAT_H
#define MV_ABI_FAT_H

#define MV_FAT_VERSION 2

// The ELF note: owner "Multiverse", this type, and a description as struct mv_fat_note.
#define MV_FAT_NOTE_TYPE 1
#define MV_FAT_RELEASE_BYTES 16

// How the code gets to run.
#define MV_FAT_LINKED 0 // from .preinit_array: multiverse cc
#define MV_FAT_PACKED 1 // from the entry point: multiverse pack

#define MV_FAT_MAGIC "MVPACKED"

// What lies so many bytes behind the core's entry point: a magic number and MV_FAT_VERSION.
#define MV_CORE_MARK 16
#define MV_CORE_MAGIC 0x45524f434553564dULL

// Offset into struct mv_adoption, for assembly; adopt.c checks it.
#define MV_ADOPTION_RSP 0

#ifndef __ASSEMBLER__
#include <stdint.h>

// The note's description. Distances are in bytes from the field itself, so that they hold wherever
// the file is loaded.
struct mv_fat_note {
    uint32_t version;                   // MV_FAT_VERSION
    uint32_t aerokernel;                // MV_AEROKERNEL_VERSION of the core
    int64_t core;                       // distance to the core, an ELF file
    uint64_t core_size;                 // bytes
    uint32_t core_crc32;                // as zlib computes it
    uint32_t kind;                      // MV_FAT_LINKED, MV_FAT_PACKED
    char release[MV_FAT_RELEASE_BYTES]; // of Multiverse, terminated
    int64_t code; // distance to the first function, or to struct mv_fat_packed
} __attribute__((packed, aligned(4)));

// What multiverse pack appends to a file begins with this, and is a segment of its own. It fills in
// what is 0 as it is built; the file is made again as it was from that.
struct mv_fat_packed {
    char magic[8];                  // MV_FAT_MAGIC
    uint64_t entry;                 // offsets in what is appended: the new entry point,
    uint64_t note, note_end;        // and the notes
    int64_t original_entry;         // distance to the entry point that the file had
    uint64_t original_size;         // bytes of the file
    uint64_t original_crc32;        // of all of it
    uint64_t original_header;       // offset in the file: its ELF header, then its program headers
    uint64_t modules, modules_size; // offset of override modules (abi/override.h), or 0, 0
};

// A function of a linked program that override modules take over or call (multiverse cc
// --override). It is called through a variable, which natively holds `legacy`.
struct mv_fat_link {
    uint64_t *slot;    // that variable; NULL: the function is only called
    uint64_t legacy;   // address of the legacy function
    uint64_t wrapper;  // address in the modules' image
    uint64_t original; // of the variable there that gets `legacy`; 0: none
};

struct mv_attach_request;
struct mv_attach_answer;

// What the core, entered with a pointer to this in RDI (Linux enters it with 0 there), needs to
// make an HRT of the process that has mapped it. The call returns 0 in the HRT, or natively a
// negative errno, with nothing changed but the image and the region, which the caller unmaps.
struct mv_adoption {
    uint64_t rsp;     // the core's own: where to return to
    uint32_t version; // MV_FAT_VERSION
    uint32_t argc;    // of the program, with its vectors
    char **argv, **envp;
    uint64_t image, image_size;   // where the core is mapped; 0 when it has moved away
    uint64_t region, region_size; // what it has reserved; 0: nothing yet
    // Not NULL: make an HRT for single threads only; the process goes on natively (abi/attach.h).
    const struct mv_attach_request *attach;
    struct mv_attach_answer *answer;
    // Override modules (abi/override.h) and their functions; NULL, 0: none.
    const char *modules;
    uint64_t modules_size;
    const struct mv_fat_link *links;
    uint64_t links_count;
    char what[128]; // of an error: what failed, and why
};
#endif

#endif
