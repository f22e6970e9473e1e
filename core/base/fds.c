#include "base/fds.h"

#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/resource.h>

#include "base/lock.h"
#include "base/sys.h"

enum { OWNERS_MAX = 4096, HIGH = 960 };

static int *owners[OWNERS_MAX];
static unsigned owner_count;
static struct mv_lock owners_lock;
static int lowest_ever = INT32_MAX; // no number below this was ever a registered one

// Where to look for a free number: high, but not so high that the kernel has to grow the
// descriptor table (and copy it on every fork) for our sake.
static long duplicate_high(int fd)
{
    struct rlimit64 limit = {0};
    sys4(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
    uint64_t from = MIN((uint64_t)HIGH, limit.rlim_cur / 4 * 3);
    return sys3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, from);
}

// With the lock held.
static void lower_to(int fd)
{
    if (fd < lowest_ever)
        WRITE_ONCE(lowest_ever, fd);
}

void mv_fd_own(int *owner, int fd)
{
    long high = duplicate_high(fd);
    if (high >= 0)
        sys1(__NR_close, fd);
    *owner = high >= 0 ? (int)high : fd;
    mv_lock(&owners_lock);
    lower_to(*owner);
    if (owner_count < OWNERS_MAX)
        owners[owner_count++] = owner;
    mv_unlock(&owners_lock);
}

void mv_fd_close(int *owner)
{
    if (*owner < 0)
        return;
    mv_lock(&owners_lock);
    for (unsigned i = 0; i < owner_count; i++)
        if (owners[i] == owner)
            owners[i] = owners[--owner_count];
    mv_unlock(&owners_lock);
    sys1(__NR_close, *owner);
    *owner = -1;
}

int *mv_fd_owner(int fd)
{
    int *found = NULL;
    if (fd < READ_ONCE(lowest_ever))
        return NULL;
    mv_lock(&owners_lock);
    for (unsigned i = 0; i < owner_count && !found; i++)
        if (*owners[i] == fd)
            found = owners[i];
    mv_unlock(&owners_lock);
    return found;
}

int mv_fd_move(int *owner)
{
    long moved = duplicate_high(*owner);
    if (moved < 0)
        return (int)moved;
    mv_lock(&owners_lock);
    lower_to((int)moved);
    mv_unlock(&owners_lock);
    int old = __atomic_exchange_n(owner, (int)moved, __ATOMIC_SEQ_CST);
    sys1(__NR_close, old);
    return 0;
}

int mv_fd_lowest_owned(unsigned first, unsigned last)
{
    int lowest = -1;
    mv_lock(&owners_lock);
    for (unsigned i = 0; i < owner_count; i++) {
        int fd = *owners[i];
        if ((unsigned)fd >= first && (unsigned)fd <= last && (lowest < 0 || fd < lowest))
            lowest = fd;
    }
    mv_unlock(&owners_lock);
    return lowest;
}

void mv_fds_forget(void)
{
    while (owner_count)
        *owners[--owner_count] = -1;
}

void mv_fds_close(void)
{
    while (owner_count)
        mv_fd_close(owners[owner_count - 1]);
}

void mv_fds_lock(void)
{
    mv_lock(&owners_lock);
}

void mv_fds_unlock(void)
{
    mv_unlock(&owners_lock);
}
