#include "aerokernel/xstate.h"

#include "base/string.h"

// Intel SDM volume 1, 13.4: the header behind the legacy area.
enum { HEADER_AT = 512, HEADER_BYTES = 64 };

void ak_xsave(char *image, const struct ak_xstate *x)
{
    if (!x->fxsave_only) {
        memset(image + HEADER_AT, 0, HEADER_BYTES);
        __asm__ volatile("xsave64 (%0)"
                         :
                         : "r"(image), "a"((uint32_t)x->features),
                           "d"((uint32_t)(x->features >> 32))
                         : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" : : "r"(image) : "memory");
    }
}

void ak_xrstor(const char *image, const struct ak_xstate *x)
{
    if (!x->fxsave_only)
        __asm__ volatile("xrstor64 (%0)"
                         :
                         : "r"(image), "a"((uint32_t)x->features),
                           "d"((uint32_t)(x->features >> 32))
                         : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" : : "r"(image) : "memory");
}
