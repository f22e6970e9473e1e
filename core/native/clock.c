// The time-stamp counter's frequency: as the processor or the hypervisor tells, or measured with
// the interval timer of every PC.

#include "native/pc.h"
#include "native/port.h"

enum {
    LEAF_TSC = 0x15,
    LEAF_HYPERVISOR = 0x40000000,
    LEAF_TIMING = 0x40000010, // of hypervisors: TSC frequency, kHz
    PIT_HZ = 1193182,
    PIT_CHANNEL_2 = 0x42,
    PIT_COMMAND = 0x43,
    PIT_GATE = 0x61, // bit 0: gate of channel 2; bit 1: speaker; bit 5: its output
    MEASURED_MS = 20,
};

static uint64_t measure(void)
{
    uint16_t count = PIT_HZ * MEASURED_MS / 1000;
    uint8_t gate = in8(PIT_GATE) & ~3;
    out8(PIT_GATE, gate);
    out8(PIT_COMMAND, 0xb0); // channel 2, both bytes, output high at the end
    out8(PIT_CHANNEL_2, count & 0xff);
    out8(PIT_CHANNEL_2, count >> 8);
    out8(PIT_GATE, gate | 1);
    uint64_t begin = rdtsc();
    while (!(in8(PIT_GATE) & 0x20))
        __builtin_ia32_pause();
    return (rdtsc() - begin) * PIT_HZ / count;
}

uint64_t pc_tsc_hz(void)
{
    struct cpuid r = {0};
    if (cpuid(0, 0).a >= LEAF_TSC)
        r = cpuid(LEAF_TSC, 0);
    if (r.a && r.b && r.c)
        return (uint64_t)r.c * r.b / r.a;
    bool hypervisor = cpuid(1, 0).c >> 31;
    if (hypervisor && cpuid(LEAF_HYPERVISOR, 0).a >= LEAF_TIMING)
        r = cpuid(LEAF_TIMING, 0);
    else
        r.a = 0;
    return r.a ? (uint64_t)r.a * 1000 : measure();
}

void pc_delay(uint64_t tsc_hz, uint64_t us)
{
    for (uint64_t begin = rdtsc(); rdtsc() - begin < tsc_hz / 1000000 * us;)
        __builtin_ia32_pause();
}
