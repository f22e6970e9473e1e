// Signal state that the ROS and the HRT share: what an action and a signal are, and the page in
// which the HRT finds what it needs to raise and return from SIGSEGV by itself.
#ifndef MV_ABI_SIGNAL_H
#define MV_ABI_SIGNAL_H

#include <asm/sigcontext.h>
#include <linux/signal.h>

#include <asm/ucontext.h> // uses the two above without including them

#include "base/types.h"

// Signal sets as the kernel has them: bit n-1 stands for signal n.
typedef uint64_t ros_sigset;
#define SIGBIT(sig) (1UL << ((sig) - 1))
enum { ROS_SIGNALS = 64 };

// Signals that instructions raise. The core needs them unblocked and handled at all times (its
// copies from program memory and the replication of accesses rely on it), so for these the
// program's mask and dispositions exist only in our tables.
#define ROS_SYNC_SIGNALS                                                                           \
    (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGFPE) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP))
enum { ROS_SYNC_COUNT = 5 };
#define NEVER_BLOCKED (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))

#define SA_RESTORER_FLAG 0x04000000ULL // SA_RESTORER, which the headers keep from programs

// Handlers that are none: the default action, and to ignore the signal.
#define HANDLER_DEFAULT 0ULL
#define HANDLER_IGNORE 1ULL

// struct kernel_sigaction of rt_sigaction(2).
struct ros_sigaction {
    uint64_t handler, flags, restorer;
    ros_sigset mask;
};

// A signal on its way to the program, with what the kernel recorded of the fault that raised it.
struct ros_signal {
    siginfo_t info;
    uint64_t trapno, error, cr2;
};

// The signal state of one group in its window (AK_SIGNALS_OFFSET), written by the ROS, which does
// not read it back but for a mask that is deferred. What the program blocks of ROS_SYNC_SIGNALS is
// in mv_trap.
struct mv_signals {
    uint32_t version;      // odd while the ROS changes `segv`
    uint32_t pending_sync; // not 0: blocked signals wait, so unblocking is the ROS's affair
    struct ros_sigaction segv;
    stack_t altstack;
    ros_sigset mask;     // the partner's: the program's (see `deferred`), but for ROS_SYNC_SIGNALS
    uint64_t xfeatures;  // of the extended state in signal frames: XCR0; 0: FXSAVE only
    uint64_t xsave_size; // its bytes
    ros_sigset deferred_mask; // if `deferred`: the program's mask, which only the HRT knows
    uint32_t deferred;        // written by the HRT, too; the partner's mask is `mask`
    uint64_t robust;          // head of the robust list that Linux has of the thread; 0: not known
};

#endif
