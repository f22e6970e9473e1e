// The boot protocol of native programs: programs that are linked with the AeroKernel alone and
// have a machine to themselves. Also read by assembly. docs/native.md has it in words.
//
// Such a program is an ELF file whose first bytes in memory are a struct mv_native. Whoever starts
// it loads its segments at their addresses, prepares windows (frame.h), tables and a struct mv_boot
// (core/native/layout.h does all of that) and enters it in 64-bit mode: virtual CPU 0 at `entry`,
// the others at `entry_cpu`. RDI is the address of struct mv_boot, RSI the virtual CPU's number,
// RSP the top of a stack, the GS base the window's address. From the lowest page on, which is not
// mapped, virtual addresses are physical ones.
#ifndef MV_ABI_BOOT_H
#define MV_ABI_BOOT_H

#include "abi/frame.h"

#define MV_NATIVE_MAGIC 0x3154414e4f524541 // "AERONAT1"
#define MV_NATIVE_VERSION 1
#define MV_NATIVE_BASE 0x200000 // where programs are linked

// Bytes between the entries of two vectors, of which there are MV_NATIVE_VECTORS.
#define MV_NATIVE_VECTOR_STRIDE 16
#define MV_NATIVE_VECTORS 64

#define MV_NATIVE_CPUS_MAX 64
#define MV_BOOT_RANGES 16

// What a virtual CPU asks for in its window's struct mv_call when it rings the doorbell.
#define MV_CALL_NONE 0
#define MV_CALL_WRITE 1   // address, size: bytes for the console
#define MV_CALL_END 2     // status, address, size of a report's text: end all
#define MV_CALL_SLEEP 3   // nanoseconds, ~0: until woken
#define MV_CALL_WAKE 4    // number of a virtual CPU
#define MV_CALL_PREPARE 5 // start, size: translate by 4 KiB pages
#define MV_CALL_PROTECT 6 // start, size, enum ak_page_access
#define MV_CALL_TEST 7    // start, size, bits, clear: count pages, as ak_page_test()
#define MV_CALL_DROP 8    // start, size: all virtual CPUs forget what they know of the range

// Exit statuses of a program that does not end by itself.
#define MV_STATUS_OVERRUN 134 // as SIGABRT gives it
#define MV_STATUS_FAULT 139   // as SIGSEGV gives it

#ifndef __ASSEMBLER__
#include "abi/machine.h"

// What a program says of itself.
struct mv_native {
    uint64_t magic;
    uint32_t version;
    uint32_t layout; // MV_NATIVE_LAYOUT, as it was when the AeroKernel in it was compiled
    uint64_t entry, entry_cpu;
    uint64_t vectors_ring0, vectors_ring3; // entries of the IDT's vectors
    uint64_t syscall;                      // where SYSCALL leads, if it leads anywhere
};

struct mv_boot_range {
    uint64_t start, size; // bytes
};

// What a program is told.
struct mv_boot {
    uint64_t magic; // MV_NATIVE_MAGIC
    uint32_t version;
    uint32_t ring;         // privilege level of the program: 0 or 3
    uint32_t doorbell;     // 1: the doorbell is answered; 0: there is hardware instead
    uint32_t cpus;         // virtual CPUs that are started
    uint64_t xcr0;         // components of the extended state; 0 without XSAVE
    uint64_t xsave_size;   // bytes of the standard format for them
    uint64_t command_line; // address of words with spaces between them; %XX is a byte
    struct mv_machine machine;
    uint64_t tables_used; // bytes of machine.tables.memory that are taken
    uint32_t ranges;      // of free memory
    uint32_t reserved;
    struct mv_boot_range range[MV_BOOT_RANGES];
};

// Differs, all but certainly, where one side was compiled with another layout of what both share.
#define MV_NATIVE_LAYOUT                                                                           \
    ((uint32_t)(sizeof(struct mv_boot) * 0x9e3779b1 + sizeof(struct mv_machine) * 0x85ebca6b +     \
                __builtin_offsetof(struct mv_boot, machine) * 0xc2b2ae35 + AK_WINDOW_STRIDE * 3 +  \
                AK_FRAME_OFFSET * 5 + AK_DOORBELL_OFFSET * 7 + AK_TABLES_OFFSET * 11 +             \
                AK_IST_OFFSET * 13))

// A request, at AK_FRAME_OFFSET of a window. The other side reads it once and checks it.
struct mv_call {
    uint64_t op;
    uint64_t arg[4];
    int64_t result; // 0 or more, or a negative errno
};
#endif

#endif
