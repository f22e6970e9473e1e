#include "clock.h"

#include <aerokernel/override.h>
#include <asm/errno.h>
#include <asm/unistd.h>
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

static uint64_t ns(const struct __kernel_timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
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

// ---- The process's processor time ---------------------------------------------------------------

// What Linux has told a thread. From then on this time passes as real time does, as long as the
// thread has not waited: but for the times when it had no processor, which nobody here sees. So
// Linux is asked again after one tick of the clock in which times(2) counts.
enum { CPUS = 64, TICK_NS = 10000000 };

static struct told {
    uint64_t epoch, entries; // of ak_identity: has this thread run ever since?
    uint64_t at;             // when, by CLOCK_MONOTONIC, ns
    uint64_t time;           // ns
} told[CPUS];
static uint64_t latest; // what the program has seen of it, ns
static uint32_t owner;  // the process; 0: none yet

static bool is_owner(uint32_t pid)
{
    uint32_t none = 0;
    return __atomic_compare_exchange_n(&owner, &none, pid, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED) ||
           none == pid;
}

// It does not go back: not for a thread that had no processor for a while, nor between threads.
static uint64_t advance(uint64_t time)
{
    uint64_t seen = __atomic_load_n(&latest, __ATOMIC_RELAXED);
    while (seen < time && !__atomic_compare_exchange_n(&latest, &seen, time, false,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return seen < time ? time : seen;
}

// now: where Linux writes the time, in the program's memory.
static int64_t ask(struct told *told, const struct ak_identity *me, void *now)
{
    struct __kernel_timespec time, monotonic;
    int64_t err = ak_linux(__NR_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, (uint64_t)now, 0, 0, 0, 0);
    if (err || ak_copy_in(&time, now, sizeof(time)))
        return err ? err : -EFAULT;
    told->epoch = me->epoch;
    told->entries = me->entries;
    told->at = read_clock(CLOCK_MONOTONIC, &monotonic) ? ns(&monotonic) : 0;
    told->time = ns(&time);
    return 0;
}

static int64_t processor_time(void *now)
{
    const struct ak_identity *me = ak_identity();
    struct __kernel_timespec time;
    if (!me || me->cpu >= CPUS || !is_owner(me->pid) || !read_clock(CLOCK_MONOTONIC, &time))
        return AK_FALLBACK;
    struct told *mine = &told[me->cpu];
    uint64_t passed = ns(&time) - mine->at;
    if (passed >= TICK_NS || mine->epoch != me->epoch || mine->entries != me->entries) {
        int64_t err = ask(mine, me, now);
        if (err)
            return err;
        passed = 0;
    }
    uint64_t value = advance(mine->time + passed);
    time.tv_sec = (int64_t)(value / 1000000000);
    time.tv_nsec = (int64_t)(value % 1000000000);
    return ak_copy_out(now, &time, sizeof(time));
}

// ---- Calls --------------------------------------------------------------------------------------

int64_t clock_get(int clock, void *now)
{
    struct __kernel_timespec time;
    if (clock == CLOCK_PROCESS_CPUTIME_ID)
        return processor_time(now);
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
