// The parts of a PC that a native program without a monitor uses.
#ifndef MV_NATIVE_PC_H
#define MV_NATIVE_PC_H

#include "abi/boot.h"
#include "base/types.h"

// The version of struct hvm_start_info that has a memory map (xen/include/public/arch-x86/hvm).
struct pc_start_info {
    uint32_t magic, version, flags, modules;
    uint64_t modules_at, command_line, rsdp;
    uint64_t memory_map;
    uint32_t memory_map_entries, reserved;
};

// acpi.c: the local APICs of usable processors, the calling one's first. Returns their number, at
// most max; 1 where there are no tables that say more.
unsigned pc_find_cpus(uint64_t rsdp, uint8_t own, uint8_t *apic, unsigned max);

// clock.c: the time-stamp counter's frequency, Hz.
uint64_t pc_tsc_hz(void);
// Wait.
void pc_delay(uint64_t tsc_hz, uint64_t us);

// apic.c: the local APIC, one a processor. It is seen at its usual physical address.
#define PC_APIC 0xfee00000ULL
enum { PC_VECTOR_TIMER = 48, PC_VECTOR_WAKE = 49, PC_VECTOR_SPURIOUS = 63 };
uint8_t pc_apic_id(void);
// Make the calling processor's ready; the first one also learns how fast timers count.
void pc_apic_init(uint64_t tsc_hz);
// Start another processor at a page below 1 MiB.
void pc_apic_start(uint8_t apic, uint64_t page, uint64_t tsc_hz);
void pc_apic_send(uint8_t apic, uint8_t vector);
void pc_apic_send_nmi_to_others(void);
void pc_apic_end_of_interrupt(void);
// Have a timer's interrupt come after ns nanoseconds, or (~0) not at all.
void pc_apic_timer(uint64_t ns);

#endif
