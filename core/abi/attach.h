// How libmultiverse and the core that it has mapped into a process speak with each other. The core
// is called as a fat binary calls it (abi/fat.h), with mv_adoption.attach.
#ifndef MV_ABI_ATTACH_H
#define MV_ABI_ATTACH_H

#include <stdint.h>

struct mv_attach_request {
    const char *config; // as for multiverse-core
    // Program code that is called in the HRT, like a signal handler with three arguments, for a
    // signal that an instruction raises there; and where it returns to.
    uint64_t fault_handler, restorer;
};

// All functions are called on native threads and return 0 or a negative errno.
struct mv_attach_answer {
    uint32_t ring;         // that functions run at
    uint32_t wrong_config; // after a failure: the configuration is the reason, not the machine
    // Run fn(arg) in the HRT on the calling thread and its stack, until MV_AEROKERNEL_LEAVE.
    // Signals are blocked. -EAGAIN: no virtual CPU is left.
    int (*enter)(uint64_t fn, uint64_t arg);
    // Make the virtual machine anew; no thread is in the HRT.
    int (*reboot)(void);
    // Give everything up but the region's memory; no thread is in the HRT. -EBUSY: the process has
    // changed its handlers of signals since; ours have to stay, and with them the region.
    int (*detach)(void);
    // In a forked child: give up the descriptors inherited.
    void (*forked)(void);
};

#endif
