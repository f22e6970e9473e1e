// How a program leads the AeroKernel astray.
#ifndef WILD_H
#define WILD_H

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../../core/abi/frame.h"

#define NO_ADDRESS (1UL << 63)
#define KEEP __attribute__((noinline, optimize("no-optimize-sibling-calls")))
enum { PAGE = 4096, EXIT_BAD = 90 };

// The first thread has the first virtual CPU, in a forked child, too.
static volatile struct mv_frame *frame = (void *)(AK_WINDOW(0) + AK_FRAME_OFFSET);

static void need(int condition)
{
    if (!condition)
        _exit(EXIT_BAD);
}

// Where the AeroKernel's entry loads the registers from the frame: behind the OUT it jumps there.
static uint64_t find_answered(void)
{
    const uint8_t *page = (const uint8_t *)AK_WINDOW(0);
    for (int i = 0; i < PAGE - 8; i++) {
        if (page[i] != 0xe6 || page[i + 1] != AK_PORT_DOORBELL)
            continue;
        if (page[i + 2] == 0xeb)
            return AK_WINDOW(0) + i + 4 + (int8_t)page[i + 3];
        int32_t far;
        memcpy(&far, page + i + 3, 4);
        need(page[i + 2] == 0xe9);
        return AK_WINDOW(0) + i + 7 + far;
    }
    _exit(EXIT_BAD);
}

// Registers that the AeroKernel loads and then jumps to no address with: it takes the fault.
KEEP static void load_wild_frame(uint64_t stack)
{
    frame->rip = NO_ADDRESS;
    frame->rsp = frame->rbp = stack;
    frame->rflags = AK_FLAGS_FIXED;
    __asm__ volatile("jmp *%0" : : "r"(find_answered()) : "memory");
}

#endif
