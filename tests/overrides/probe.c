#include "probe.h"

#include <aerokernel/override.h>
#include <aerokernel/sync.h>
#include <asm/unistd.h>

static struct ak_spin lock;
static long turns_made;

// A call of Linux's from within an answer.
int64_t probe_parent(void)
{
    return ak_linux(__NR_getppid, 0, 0, 0, 0, 0, 0) + 1000000;
}

int64_t probe_nothing(void)
{
    return AK_FALLBACK;
}

int64_t probe_time(void *to)
{
    const int64_t time[2] = {12345, 678};
    return to ? ak_copy_out(to, time, sizeof(time)) : 0;
}

static void work(long turns)
{
    for (long i = 0; i < turns; i++)
        __asm__ volatile("pause");
}

// A lock that system calls and functions share: nobody may be stopped who holds it.
int64_t probe_locked(void)
{
    ak_spin_lock(&lock);
    work(50);
    int64_t group = ++turns_made % 16 ? 0 : ak_linux(__NR_getpgid, 0, 0, 0, 0, 0, 0);
    ak_spin_unlock(&lock);
    return group ? group : AK_FALLBACK;
}

long probe_locked_turns(long turns)
{
    ak_spin_lock(&lock);
    work(turns);
    ak_spin_unlock(&lock);
    return turns;
}

int64_t probe_number(int64_t number)
{
    return number;
}

// Far down the program's stack.
__attribute__((noinline)) long probe_deep(long depth)
{
    volatile char room[3000];
    room[0] = 1;
    return depth ? probe_deep(depth - 1) + room[0] : 0;
}

void probe_poke(char *where)
{
    *where = 1;
}

int64_t probe_doubled(int64_t value)
{
    return value < 0 ? AK_FALLBACK : 2 * value;
}

// The signal waits from the call on, and what is touched then is not there yet.
long probe_signalled(long process, long signal, char *where)
{
    ak_hold();
    ak_linux(__NR_kill, (uint64_t)process, (uint64_t)signal, 0, 0, 0, 0);
    *where = 1;
    ak_release();
    return 0;
}
