// Which processors there are: ACPI's table for that (ACPI 6.4, 5.2.12), as far as it lists local
// APICs with numbers of one byte.

#include "base/string.h"
#include "native/pc.h"

enum { BIOS_START = 0xe0000, BIOS_END = 0x100000, MADT_HEADER = 44, TYPE_LOCAL_APIC = 0 };
#define TABLES_END GIB(4) // the first code's page tables show no more

struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
} __attribute__((packed));

struct table {
    char signature[4];
    uint32_t length;
} __attribute__((packed));

struct local_apic {
    uint8_t type, length, processor, apic;
    uint32_t flags; // bit 0: enabled
} __attribute__((packed));

static bool is_rsdp(uint64_t at)
{
    return at && at < TABLES_END && memcmp((const void *)at, "RSD PTR ", 8) == 0;
}

static const struct table *find_madt(uint64_t rsdp)
{
    for (uint64_t at = BIOS_START; !is_rsdp(rsdp) && at < BIOS_END; at += 16)
        if (is_rsdp(at))
            rsdp = at;
    if (!is_rsdp(rsdp))
        return NULL;
    const struct table *rsdt = (const struct table *)(uint64_t)((const struct rsdp *)rsdp)->rsdt;
    if (!rsdt || memcmp(rsdt->signature, "RSDT", 4) != 0 || rsdt->length > MIB(1))
        return NULL;
    enum { HEADER = 36 };
    for (uint32_t at = HEADER; at + 4 <= rsdt->length; at += 4) {
        uint32_t address;
        memcpy(&address, (const char *)rsdt + at, 4);
        const struct table *table = (const struct table *)(uint64_t)address;
        if (table && memcmp(table->signature, "APIC", 4) == 0 && table->length <= MIB(1))
            return table;
    }
    return NULL;
}

unsigned pc_find_cpus(uint64_t rsdp, uint8_t own, uint8_t *apic, unsigned max)
{
    const struct table *madt = find_madt(rsdp);
    unsigned count = 1;
    apic[0] = own;
    for (uint32_t at = MADT_HEADER; madt && at + 2 <= madt->length;) {
        const struct local_apic *entry = (const struct local_apic *)((const char *)madt + at);
        if (entry->length < 2)
            break;
        bool usable = entry->type == TYPE_LOCAL_APIC && at + sizeof(*entry) <= madt->length &&
                      (entry->flags & 1) && entry->apic != own;
        if (usable && count < max)
            apic[count++] = entry->apic;
        at += entry->length;
    }
    return count;
}
