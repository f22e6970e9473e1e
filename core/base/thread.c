#include "base/thread.h"

#include <asm/unistd.h>
#include <linux/sched.h>

int64_t mv_thread(uint64_t stack, void (*start)(void *), void *arg)
{
    enum {
        SHARED = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    };
    uint64_t args[5] = {SHARED, stack};
    return mv_clone(__NR_clone, args, start, arg);
}
