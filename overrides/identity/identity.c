#include "identity.h"

#include <aerokernel/cpu.h>
#include <aerokernel/override.h>
#include <asm/unistd.h>

// Who has no number in a user namespace has this one (user_namespaces(7)). Another process, or a
// write of one's own to uid_map or gid_map, may give one; then it stays.
enum { NOT_MAPPED = 65534 };

// What Linux has said, by virtual CPU and number: 0, or the epoch in which it was said and, in the
// low 32 bits, the answer. One word, so that no reader sees half of another one's.
static uint64_t said[AK_CPUS_MAX][IDENTITY_EGID + 1];

int64_t identity_pid(void)
{
    const struct ak_identity *me = ak_identity();
    return me ? me->pid : AK_FALLBACK;
}

int64_t identity_tid(void)
{
    const struct ak_identity *me = ak_identity();
    return me ? me->tid : AK_FALLBACK;
}

int64_t identity_user(enum identity_number number)
{
    static const unsigned calls[] = {__NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid};
    const struct ak_identity *me = ak_identity();
    if (!me)
        return AK_FALLBACK;
    uint64_t epoch = __atomic_load_n(&me->epoch, __ATOMIC_RELAXED) << 32;
    uint64_t *word = &said[me->cpu][number];
    uint64_t value = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (value >> 32 != epoch >> 32 || !epoch) {
        value = epoch | (uint32_t)ak_linux(calls[number], 0, 0, 0, 0, 0, 0);
        if ((uint32_t)value == NOT_MAPPED)
            return NOT_MAPPED;
        __atomic_store_n(word, value, __ATOMIC_RELAXED);
    }
    return (uint32_t)value;
}
