// What the HRT and the ROS share of one execution group: the guest virtual layout of the
// AeroKernel, the request frame, the doorbell. Also read by assembly.
//
// The AeroKernel lives in the upper half. Every virtual CPU sees, besides the pages common to
// all, a window of its own. The window begins with an alias of the entry page, so that entry
// code reaches the window's frame and doorbell relative to its own RIP and needs no register,
// no GS base and no memory that the program could lose:
//
//   AK_BASE               entry page, vector page, IDT, control page (channel.h), page of overrides
//   AK_WINDOW(i) + 0      entry page (alias)            user, read, execute
//              + 0x1000   mv_frame, mv_trap, mv_slot, mv_signals, ak_identity: user, read, write
//              + 0x2000   doorbell: no memory behind it user, write (an exit)
//              + 0x3000   GDT, TSS, way back to CPL 3   supervisor
//              + 0x4000   IST stacks                    user, read, write
//              + 0x5000   struct ak_local (kernel.h)    user, read, write
//              + 0x6000   the AeroKernel's stack        user, read, write
//   AK_KERNEL             the AeroKernel's image        user
//   AK_MODULES            override modules              user
//   AK_MEMORY_VIEW        the memory that page tables and all of these are made of; user, read; at
//                         ring 0 also write
#ifndef MV_ABI_FRAME_H
#define MV_ABI_FRAME_H

#define AK_BASE 0xffffffff80000000
#define AK_ENTRY_PAGE (AK_BASE)
#define AK_VECTOR_PAGE (AK_BASE + 0x1000)
#define AK_IDT_PAGE (AK_BASE + 0x2000)
#define AK_OVERRIDES_PAGE (AK_BASE + 0x4000)
#define AK_WINDOWS (AK_BASE + 0x200000)
#define AK_WINDOW_STRIDE 0x8000
#define AK_WINDOWS_MAX 1024
#define AK_WINDOW(i) (AK_WINDOWS + (i) * AK_WINDOW_STRIDE)
#define AK_FRAME_OFFSET 0x1000
#define AK_TRAP_OFFSET 0x1100
#define AK_SIGNALS_OFFSET 0x1500
#define AK_IDENTITY_OFFSET 0x1600
#define AK_DOORBELL_OFFSET 0x2000
#define AK_TABLES_OFFSET 0x3000
#define AK_RETURN_OFFSET 0x3c00
#define AK_IST_OFFSET 0x4000
#define AK_CPU_OFFSET 0x5000
#define AK_STACK_OFFSET 0x6000
#define AK_KERNEL (AK_BASE + 0x4000000)
#define AK_MODULES (AK_BASE + 0x6000000)
#define AK_MEMORY_VIEW (AK_BASE + 0x8000000)

// Size of the stack of one interrupt stack table entry, bytes; page faults use the first.
#define AK_IST_BYTES 1024

// Where a doorbell is rung at ring 3 with a trap's record instead of a request.
#define AK_DOORBELL_TRAP 8

// Bytes between the exits of two vectors in the vector page.
#define AK_VECTOR_STRIDE 8

// I/O ports by which code at CPL 0 leaves the virtual machine.
#define AK_PORT_DOORBELL 0xf0
#define AK_PORT_VECTOR 0xf1
#define AK_PORT_PROBE 0xf2
#define AK_PORT_TRAP 0xf3

// Iterations of the loop by which the cost of an instruction at CPL 0 is measured, and how often it
// is.
#define AK_PROBE_LOOPS 32
#define AK_PROBE_ROUNDS 4

// Flags that every program has: interrupts on, and the bit that is always 1.
#define AK_FLAGS_FIXED 0x202

// Selectors of a program at ring 3: Linux's, since programs find them in signal frames.
#define AK_USER_SS 0x2b
#define AK_USER_CS 0x33

// Offsets into struct mv_frame, for assembly; frame.c checks them.
#define MV_FRAME_R15 0
#define MV_FRAME_R14 8
#define MV_FRAME_R13 16
#define MV_FRAME_R12 24
#define MV_FRAME_RBP 32
#define MV_FRAME_RBX 40
#define MV_FRAME_R11 48
#define MV_FRAME_R10 56
#define MV_FRAME_R9 64
#define MV_FRAME_R8 72
#define MV_FRAME_RAX 80
#define MV_FRAME_RCX 88
#define MV_FRAME_RDX 96
#define MV_FRAME_RSI 104
#define MV_FRAME_RDI 112
#define MV_FRAME_RIP 120
#define MV_FRAME_RFLAGS 128
#define MV_FRAME_RSP 136
#define MV_FRAME_RING 144
#define MV_FRAME_SYNC 152
#define MV_FRAME_STATE_BYTES 144 // what of it is the program's
#define MV_FRAME_STACK_TOP 0xff0

// Offsets into struct mv_trap; its first words are those of mv_frame.
#define MV_TRAP_ERROR 160
#define MV_TRAP_CR2 168
#define MV_TRAP_ACTIVE 176
#define MV_TRAP_NEXT 184
#define MV_TRAP_ATTENTION 192
#define MV_TRAP_SITE 200

// Offset into struct mv_signals (signal.h).
#define MV_SIGNALS_XFEATURES 72

// Values of mv_trap.active.
#define MV_TRAP_NONE 0
#define MV_TRAP_FAULT 1    // a page fault: `state` is the program's before the instruction
#define MV_TRAP_CALL 2     // a system call: `state` is the program's behind it
#define MV_TRAP_RESET 4    // done, but the extended state has yet to be made a handler's
#define MV_TRAP_OVERRIDE 8 // a system call in a module's hands: it cannot be taken over
#define MV_TRAP_DONE 16    // answered by a module: `state` is what to go on with

// What ak_on_fault() and ak_on_call() return.
#define AK_ANSWER_ROS 0     // the ROS shall answer
#define AK_ANSWER_FRAME 1   // answered: mv_trap.next follows, and the frame is the program's state
#define AK_ANSWER_FORWARD 2 // a system call that shall take its usual way
#define AK_ANSWER_DONE 3    // MV_TRAP_DONE

// Offsets into the header of the AeroKernel's image (struct ak_image).
#define AK_IMAGE_ON_FAULT 8
#define AK_IMAGE_ON_CALL 16
#define AK_IMAGE_INITIAL_XSAVE 64
#define AK_IMAGE_API 1024

// Offsets into struct ak_upcall (page.c); its first words are those of mv_frame.
#define AK_UPCALL_FN 160
#define AK_UPCALL_ARG 168
#define AK_UPCALL_FAULT 176

// A system call that Linux does not have: the ROS side of the AeroKernel's interface. The first
// argument says what is wanted.
#define MV_NR_AEROKERNEL 0x4d564b
#define MV_AEROKERNEL_ATTACH 0  // version: 0, -EPROTONOSUPPORT, -ENOTSUP
#define MV_AEROKERNEL_PREPARE 1 // start, size: translate the range by pages; 0, -EINVAL, -ENOMEM
#define MV_AEROKERNEL_DROP 2    // start, size: all processors forget what they know of the range
#define MV_AEROKERNEL_LEAVE 3   // a thread that has entered goes on natively; else -EINVAL
#define MV_AEROKERNEL_NATIVE 4  // fn, arg: what fn(arg) gives natively; -EINVAL like LEAVE
#define MV_AEROKERNEL_HOSTED 5  // 0: the caller runs in an HRT
#define MV_AEROKERNEL_HOT 6     // address: the SYSCALL before it has trapped often; 0, -EPERM
#define MV_AEROKERNEL_RELEASE 7 // start, size, prot: mprotect, then no longer claimed; its result
#define MV_AEROKERNEL_VERSION 3

#ifndef __ASSEMBLER__
#include <stdint.h>

// The program's general registers, and at the same time the request: a system call's number is
// in rax, its arguments in rdi, rsi, rdx, r10, r8, r9; the ROS side answers by changing the
// registers and letting the HRT go on. The HRT can write all of it at any time, so the ROS side
// reads each field once and treats it as hostile.
struct mv_frame {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    uint64_t rax, rcx, rdx, rsi, rdi;
    uint64_t rip, rflags, rsp;
    uint64_t ring; // 0: ring the doorbell by OUT; 3: by a store to the doorbell page
    uint64_t sync; // not 0: this group may use the synchronous channel
};

// A page fault or a system call that the AeroKernel answers itself. The program's state stays in
// `state` until the answer is complete: `active` is then replaced by `next` with one store, and the
// program goes on as the mv_frame says. Until then the ROS can take the event over as if nothing
// had been done.
struct mv_trap {
    struct mv_frame state; // but for ring and sync
    uint64_t error, cr2;   // of a page fault
    struct mv_trap_word {
        uint32_t active;       // MV_TRAP_*
        uint32_t blocked_sync; // ROS_SYNC_SIGNALS that the program blocks
    } word, next;
    uint32_t attention; // set by the ROS: a signal waits, leave when the event is answered
    uint32_t held;      // ak_hold() less ak_release()
    uint64_t site;      // of a system call: mv_slot.site
};
#endif

#endif
