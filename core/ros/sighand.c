// Dispositions that groups share.

#include "base/region.h"
#include "base/string.h"
#include "ros/signal.h"

static struct mv_lock sighands_lock;
static struct ros_sighand *sighands_free; // linked through action[0].handler

void ros_sighands_lock(void)
{
    mv_lock(&sighands_lock);
}

void ros_sighands_unlock(void)
{
    mv_unlock(&sighands_lock);
}

struct ros_sighand *ros_sighand_copy(struct ros_sighand *from)
{
    mv_lock(&sighands_lock);
    struct ros_sighand *copy = sighands_free;
    if (copy)
        sighands_free = (struct ros_sighand *)copy->action[0].handler;
    mv_unlock(&sighands_lock);
    if (!copy)
        copy = mv_region_alloc(sizeof(*copy));
    if (copy && from)
        memcpy(copy->action, from->action, sizeof(copy->action));
    if (copy) {
        copy->lock = (struct mv_lock){0};
        copy->users = 1;
    }
    return copy;
}

void ros_sighand_put(struct ros_sighand *sighand)
{
    if (__atomic_sub_fetch(&sighand->users, 1, __ATOMIC_ACQ_REL))
        return;
    mv_lock(&sighands_lock);
    sighand->action[0].handler = (uint64_t)sighands_free;
    sighands_free = sighand;
    mv_unlock(&sighands_lock);
}
