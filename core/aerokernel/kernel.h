// What the files of the AeroKernel share among themselves. Its interface for programs is
// include/aerokernel/; its functions run in the program's context, at the program's CPL, unless
// they say otherwise.
#ifndef MV_AEROKERNEL_KERNEL_H
#define MV_AEROKERNEL_KERNEL_H

#include "abi/channel.h"
#include "abi/frame.h"
#include "aerokernel/paging.h"
#include "aerokernel/platform.h"
#include "base/types.h"
#include "include/aerokernel/cpu.h"
#include "include/aerokernel/sync.h"
#include "include/aerokernel/time.h"

struct ak_thread {
    uint64_t rsp; // while it does not run
    struct ak_local *cpu;
    struct ak_thread *next; // in the one queue that it is in
    enum { AK_THREAD_WANTED, AK_THREAD_DETACHED, AK_THREAD_GONE } fate;
    void *(*fn)(void *);
    union {
        void *arg;    // of fn
        void *result; // once it has ended
    };
    struct ak_event end;
    uint64_t *stack; // its lowest word is a canary; NULL: the program's own thread
    unsigned stack_order;
};

struct ak_cpu_call {
    struct ak_cpu_call *next;
    void (*fn)(void *);
    void *arg;
};

enum { AK_CACHE_CLASSES = 8, AK_CACHE_OBJECTS = 32, AK_STACK_CACHE = 8 };

// Data of a virtual CPU, in a page of its window.
struct ak_local {
    bool attached, served;
    bool release;     // ak_cpu_serve() shall return
    unsigned id;      // of the virtual CPU
    uint32_t *asleep; // in memory of an arena: 1 while the platform has it sleep
    struct ak_thread own, *current;
    struct ak_thread *dead; // has switched away for the last time
    struct ak_spin lock;    // of the next three
    struct ak_thread *ready_first, *ready_last;
    struct ak_cpu_call *calls;
    struct ak_timer *timers; // by deadline
    uint64_t pass;           // address whose next fault no handler gets
    void *slots[AK_CPU_SLOTS];
    uint64_t *stacks[AK_STACK_CACHE]; // of the default size
    unsigned stacks_count;
    struct {
        unsigned count;
        void *object[AK_CACHE_OBJECTS];
    } cache[AK_CACHE_CLASSES];
};

// The calling virtual CPU's; its program has attached itself.
static inline struct ak_local *ak_local(void)
{
    uint64_t window;
    __asm__ volatile("rdgsbase %0" : "=r"(window));
    return (struct ak_local *)(window + AK_CPU_OFFSET);
}

// A virtual CPU's that has been seen to exist, or NULL.
struct ak_local *ak_local_of(unsigned cpu);

// sched.c

// Let others run until the calling thread has been made ready; it has put itself into a queue.
void ak_block(struct ak_local *cpu);
// Make a thread ready, from any virtual CPU.
void ak_ready(struct ak_thread *thread);
// Run calls and timers that are due.
void ak_poll(struct ak_local *cpu);
// Wake a virtual CPU that sleeps.
void ak_wake(struct ak_local *cpu);

// switch.S

// Save the callee-saved state on the stack, its pointer in *save, and go on from another one.
void ak_switch(uint64_t *save, uint64_t rsp);
extern const char ak_thread_begin[], ak_upcall[];

// page.c, on the AeroKernel's stack: what becomes of a fault, which may be in a range that has a
// handler. state: the program's, at the instruction.
enum ak_range_fault {
    AK_FAULT_OTHER,  // nothing to do with us
    AK_FAULT_RETRY,  // the entry allows the access by now
    AK_FAULT_UPCALL, // the state is now that of the handler's call
};
enum ak_range_fault ak_range_fault(char *window, struct mv_frame *state, uint64_t address,
                                   bool write);

// The page tables as the HRT sees them; `view` describes the memory they are made of.
struct ak_paging ak_tables(struct ak_memory *view);

#endif
