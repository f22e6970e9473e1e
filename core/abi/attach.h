// How libmultiverse starts the core within a process that runs already, and calls it. The library
// puts the image of multiverse-core at the start of a region that it has reserved, relocates it and
// calls the function that the header behind the ELF entry point names.
#ifndef MV_ABI_ATTACH_H
#define MV_ABI_ATTACH_H

// The header lies so many bytes behind the entry point.
#define MV_ATTACH_OFFSET 16
#define MV_ATTACH_MAGIC 0x48434154544156ULL
#define MV_ATTACH_VERSION 1

#ifndef __ASSEMBLER__
#include <stdint.h>

struct mv_attach_header {
    uint64_t magic, version;
    int64_t attach; // distance of the function from this header, bytes
};

struct mv_attach_request {
    uint64_t region_start, region_end; // 2 MiB aligned, no access but to the image
    uint64_t image_size;               // bytes, whole pages
    const char *config;                // as for multiverse-core
    // Program code that is called in the HRT, like a signal handler with three arguments, for a
    // signal that an instruction raises there; and where it returns to.
    uint64_t fault_handler, restorer;
};

struct mv_attach_answer {
    const char *what; // that failed
    uint32_t ring;
    // All are called on native threads and return 0 or a negative errno.

    // Run fn(arg) in the HRT on the calling thread and its stack. Signals are blocked. -EAGAIN: no
    // virtual CPU is left.
    int (*enter)(uint64_t fn, uint64_t arg);
    // Make the virtual machine anew; no thread is in the HRT.
    int (*reboot)(void);
    // Give everything up but the region's memory; no thread is in the HRT. -EBUSY: the process has
    // changed its handlers of signals since; ours have to stay, and with them the region.
    int (*detach)(void);
    // In a forked child: give up the descriptors inherited.
    void (*forked)(void);
};

typedef int mv_attach_fn(const struct mv_attach_request *request, struct mv_attach_answer *answer);
#endif

#endif
