#include "clock.h"

#include <aerokernel/override.h>
#include <asm/errno.h>
#include <linux/elf.h>
#include <linux/time_types.h>

typedef int vdso_clock(int clock, struct __kernel_timespec *now);

// The vDSO's function, and its first bytes. The program may have taken it away since.
static struct {
    vdso_clock *function;
    uint64_t code;
    bool sought;
} vdso;

static bool read_code(uint64_t *code)
{
    return ak_copy_in(code, (const void *)vdso.function, sizeof(*code)) == 0;
}

static bool is_wanted(const char *name)
{
    static const char wanted[] = "__vdso_clock_gettime";
    char text[sizeof(wanted)];
    if (ak_copy_in(text, name, sizeof(text)))
        return false;
    for (unsigned i = 0; i < sizeof(text); i++)
        if (text[i] != wanted[i])
            return false;
    return true;
}

// Look for the function in the sections of the file that the vDSO is.
static uint64_t find(const char *file)
{
    Elf64_Ehdr head;
    Elf64_Shdr table, strings;
    Elf64_Sym symbol;
    if (!file || ak_copy_in(&head, file, sizeof(head)))
        return 0;
    const char *sections = file + head.e_shoff;
    for (unsigned i = 0; i < head.e_shnum; i++) {
        if (ak_copy_in(&table, sections + i * sizeof(table), sizeof(table)))
            return 0;
        if (table.sh_type != SHT_DYNSYM)
            continue;
        if (ak_copy_in(&strings, sections + table.sh_link * sizeof(strings), sizeof(strings)))
            return 0;
        for (uint64_t at = 0; at < table.sh_size; at += sizeof(symbol))
            if (ak_copy_in(&symbol, file + table.sh_offset + at, sizeof(symbol)) == 0 &&
                is_wanted(file + strings.sh_offset + symbol.st_name))
                return (uint64_t)file + symbol.st_value;
    }
    return 0;
}

// Those that the vDSO has; for the others it would ask Linux.
static bool is_known(int clock)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
        return true;
    default:
        return false;
    }
}

static bool read_clock(int clock, struct __kernel_timespec *now)
{
    uint64_t code;
    if (!__atomic_load_n(&vdso.sought, __ATOMIC_ACQUIRE)) { // threads find the same
        vdso.function = (vdso_clock *)find(ak_vdso());
        if (vdso.function && !read_code(&vdso.code))
            vdso.function = NULL;
        __atomic_store_n(&vdso.sought, true, __ATOMIC_RELEASE);
    }
    return vdso.function && is_known(clock) && read_code(&code) && code == vdso.code &&
           vdso.function(clock, now) == 0;
}

int64_t clock_get(int clock, void *now)
{
    struct __kernel_timespec time;
    return read_clock(clock, &time) ? ak_copy_out(now, &time, sizeof(time)) : AK_FALLBACK;
}

int64_t clock_time_of_day(void *now)
{
    struct __kernel_timespec time;
    if (!read_clock(CLOCK_REALTIME, &time))
        return AK_FALLBACK;
    int64_t value[] = {time.tv_sec, time.tv_nsec / 1000};
    return ak_copy_out(now, value, sizeof(value));
}

int64_t clock_seconds(void *now)
{
    struct __kernel_timespec time;
    if (!read_clock(CLOCK_REALTIME_COARSE, &time))
        return AK_FALLBACK;
    return now && ak_copy_out(now, &time.tv_sec, sizeof(time.tv_sec)) ? -EFAULT : time.tv_sec;
}
