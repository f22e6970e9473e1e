// The AeroKernel's image: what of it is C. It is linked at AK_KERNEL as a program of its own,
// carried by the core as bytes, and copied into guest memory.
#ifndef MV_AEROKERNEL_IMAGE_H
#define MV_AEROKERNEL_IMAGE_H

#include "abi/frame.h"
#include "base/types.h"

#define AK_IMAGE_MAGIC 0x314c4e4b4f524541ULL // "AEROKNL1"

// The header, at AK_KERNEL.
struct ak_image {
    uint64_t magic;
    uint64_t on_fault, on_call;           // addresses of ak_on_fault() and ak_on_call()
    uint64_t text_end, data_end, bss_end; // addresses: what may be executed, what the file holds,
                                          // what it needs
    uint64_t copy, copy_fault; // an instruction that may fault in an answer to a call, and where it
                               // goes on then
    char initial_xsave[576];   // extended state of a fresh program, in the XSAVE format
    uint64_t load;             // another instruction that may fault, and goes on there
    char padding[AK_IMAGE_API - AK_IMAGE_INITIAL_XSAVE - 576 - 8];
    uint64_t api[]; // addresses of the functions of api.h, in its order
};

// Functions below run in the HRT, on the AeroKernel's stack of a virtual CPU, when the program's
// state is in mv_trap.state. They return AK_ANSWER_*.

// A page fault. window: of the virtual CPU.
unsigned ak_on_fault(char *window);
// A system call whose route is MV_ROUTE_LOCAL.
unsigned ak_on_call(char *window);

static inline struct mv_frame *ak_frame(char *window)
{
    return (struct mv_frame *)(window + AK_FRAME_OFFSET);
}

static inline struct mv_trap *ak_trap(char *window)
{
    return (struct mv_trap *)(window + AK_TRAP_OFFSET);
}

#endif
