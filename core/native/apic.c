#include "native/pc.h"

// Intel SDM volume 3, 10.4: registers of the local APIC, bytes.
enum {
    REG_ID = 0x20,
    REG_EOI = 0xb0,
    REG_SPURIOUS = 0xf0,
    REG_ICR_LOW = 0x300,
    REG_ICR_HIGH = 0x310,
    REG_TIMER = 0x320,
    REG_TIMER_INITIAL = 0x380,
    REG_TIMER_CURRENT = 0x390,
    REG_TIMER_DIVIDE = 0x3e0,
};
enum {
    SOFTWARE_ENABLED = 0x100,
    MASKED = 0x10000,
    DIVIDE_BY_16 = 3,
    ICR_NMI = 0x400,
    ICR_INIT = 0x500,
    ICR_STARTUP = 0x600,
    ICR_PENDING = 0x1000,
    ICR_ASSERT = 0x4000,
    ICR_OTHERS = 0xc0000,
    MEASURED_US = 1000,
};

static uint64_t timer_hz;

static uint32_t get(unsigned reg)
{
    return *(volatile uint32_t *)(PC_APIC + reg);
}

static void set(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(PC_APIC + reg) = value;
}

uint8_t pc_apic_id(void)
{
    return get(REG_ID) >> 24;
}

static void send(uint8_t apic, uint32_t command)
{
    set(REG_ICR_HIGH, (uint32_t)apic << 24);
    set(REG_ICR_LOW, command);
    while (get(REG_ICR_LOW) & ICR_PENDING)
        __builtin_ia32_pause();
}

void pc_apic_init(uint64_t tsc_hz)
{
    set(REG_SPURIOUS, SOFTWARE_ENABLED | PC_VECTOR_SPURIOUS);
    set(REG_TIMER_DIVIDE, DIVIDE_BY_16);
    if (!timer_hz) {
        set(REG_TIMER, MASKED | PC_VECTOR_TIMER);
        set(REG_TIMER_INITIAL, ~0U);
        pc_delay(tsc_hz, MEASURED_US);
        timer_hz = (uint64_t)(~0U - get(REG_TIMER_CURRENT)) * 1000000 / MEASURED_US;
        timer_hz = MAX(timer_hz, 1ULL);
        set(REG_TIMER_INITIAL, 0);
    }
    set(REG_TIMER, PC_VECTOR_TIMER);
}

void pc_apic_start(uint8_t apic, uint64_t page, uint64_t tsc_hz)
{
    send(apic, ICR_INIT | ICR_ASSERT);
    pc_delay(tsc_hz, 10000);
    for (int i = 0; i < 2; i++) { // as processors' manuals advise
        send(apic, ICR_STARTUP | ICR_ASSERT | (uint32_t)(page >> 12));
        pc_delay(tsc_hz, 200);
    }
}

void pc_apic_send(uint8_t apic, uint8_t vector)
{
    send(apic, ICR_ASSERT | vector);
}

void pc_apic_send_nmi_to_others(void)
{
    send(0, ICR_OTHERS | ICR_ASSERT | ICR_NMI);
}

void pc_apic_end_of_interrupt(void)
{
    set(REG_EOI, 0);
}

void pc_apic_timer(uint64_t ns)
{
    enum { LONGEST_NS = 1000000000 }; // who sleeps longer looks, and sleeps again
    uint64_t ticks = MIN(ns, (uint64_t)LONGEST_NS) * timer_hz / 1000000000;
    set(REG_TIMER_INITIAL, ns == ~0ULL ? 0 : (uint32_t)MIN(MAX(ticks, 1ULL), (uint64_t)~0U));
}
