// What AeroKernel and ROS both have to know of a rewritten system-call site (core/rewrite).
#ifndef MV_ABI_SITE_H
#define MV_ABI_SITE_H

// The third byte of a rewritten site, behind the SYSCALL that was there: an invalid opcode.
#define MV_SITE_BEHIND 0x06

// Every stub lies in a line of the cache of its own and begins with these bytes: RDGSBASE R11.
#define MV_STUB_BYTES 64
#define MV_STUB_BEGIN 0xae0f49f3U

#endif
