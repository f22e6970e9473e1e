// Extended state (x87, SSE, AVX, ...) in memory.
#ifndef MV_AEROKERNEL_XSTATE_H
#define MV_AEROKERNEL_XSTATE_H

#include "base/types.h"

enum { AK_XSTATE_ALIGN = 64 };

// Its components, and bytes in the standard XSAVE format.
struct ak_xstate {
    uint64_t features, size;
    bool fxsave_only; // there is no XSAVE
};

// Save it to, and load it from, aligned images of x->size bytes.
void ak_xsave(char *image, const struct ak_xstate *x);
void ak_xrstor(const char *image, const struct ak_xstate *x);

#endif
