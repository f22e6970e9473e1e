// Raw Linux system calls of the core itself. Results are as the kernel gives them:
// a negative errno on failure.
#ifndef MV_BASE_SYS_H
#define MV_BASE_SYS_H

#include <asm/errno.h>
#include <asm/unistd.h>

#include "base/types.h"

static inline long sys6(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                        uint64_t f)
{
    long ret;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#define SYS_ARG(x) ((uint64_t)(x))
#define sys0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a) sys6(nr, SYS_ARG(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b) sys6(nr, SYS_ARG(a), SYS_ARG(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), 0, 0, 0)
#define sys4(nr, a, b, c, d) sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), 0, 0)
#define sys5(nr, a, b, c, d, e)                                                                    \
    sys6(nr, SYS_ARG(a), SYS_ARG(b), SYS_ARG(c), SYS_ARG(d), SYS_ARG(e), 0)

// mmap with all six arguments. Returns the address, or a negative errno (see sys_failed()).
static inline uint64_t sys_mmap(uint64_t addr, uint64_t size, int prot, int flags, int fd,
                                uint64_t offset)
{
    return (uint64_t)sys6(__NR_mmap, addr, size, (uint64_t)prot, (uint64_t)flags, (uint64_t)fd,
                          offset);
}

// True if a result of mmap and its kin is a negative errno.
static inline bool sys_failed(uint64_t result)
{
    return result >= (uint64_t)-4095;
}

_Noreturn static inline void sys_exit_group(int status)
{
    for (;;)
        sys1(__NR_exit_group, status);
}

#endif
