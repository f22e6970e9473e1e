/*
 * What a debugger and the core share: one struct mv_debug in a file mapping,
 * and a socket on which the core sends a byte whenever something has changed
 * (docs/debugging.md). Also an argument of cffi's cdef(): plain declarations
 * and enumerations only.
 */
enum {
    MV_DEBUG_MAGIC = 0x4244564d, /* "MVDB" */
    MV_DEBUG_VERSION = 1,
    MV_DEBUG_GROUPS = 1024,
    MV_DEBUG_BREAKPOINTS = 4096,
    MV_DEBUG_XSAVE_BYTES = 4096,
    /*
     * What a breakpoint puts in the place of an instruction: an opcode that
     * no instruction begins with. It faults, so that nothing has been executed
     * when it is met, and is met again if a signal comes first.
     */
    MV_DEBUG_OPCODE = 0x06,
    /* si_value of the SIGTRAP (si_code SI_QUEUE) that makes a thread stop. */
    MV_DEBUG_COOKIE = 0x4d564442,
};

/* A thread is parked if its state says so and its command is MV_DEBUG_NOTHING. */
enum mv_debug_state {
    MV_DEBUG_ABSENT,  /* no thread */
    MV_DEBUG_RUNNING, /* in the HRT, or in a system call */
    MV_DEBUG_PARKED,  /* waits for a command; its state is in the slot */
};

/* Why a thread has parked. */
enum mv_debug_reason {
    MV_DEBUG_TOLD,       /* it was told to */
    MV_DEBUG_START,      /* the program's first instruction is next */
    MV_DEBUG_BREAKPOINT, /* a breakpoint is at RIP */
    MV_DEBUG_STEPPED,    /* one instruction has been executed, or a handler entered */
    MV_DEBUG_SIGNAL,     /* `signal` is to be delivered; `siginfo` tells of it */
};

enum mv_debug_command {
    MV_DEBUG_NOTHING,
    MV_DEBUG_CONTINUE,
    MV_DEBUG_STEP,
};

/* Bits of mv_debug_group.changed. */
enum mv_debug_changed {
    MV_DEBUG_CHANGED_REGISTERS = 1, /* general registers and the bases */
    MV_DEBUG_CHANGED_XSAVE = 2,
};

/* One execution group; its index is its virtual CPU's number. */
struct mv_debug_group {
    uint32_t state;   /* enum mv_debug_state, written by the core */
    uint32_t command; /* futex; set by the debugger, back to 0 by the core */
    uint32_t pid;     /* a process of its own while it is a child of vfork */
    uint32_t tid;
    uint32_t reason; /* enum mv_debug_reason */
    uint32_t signal; /* Linux's number or 0; back: what to deliver, or 0 */
    uint32_t changed;
    uint32_t unused;
    uint64_t frame; /* address of its struct mv_frame in the process, for threads in a call */
    /* In the order of struct mv_frame: R15 to R8, RAX, RCX, RDX, RSI, RDI, RIP, flags, RSP. */
    uint64_t registers[18];
    uint64_t fs_base, gs_base;
    uint64_t cr0, cr2, cr3, cr4, efer; /* read only */
    uint8_t siginfo[128];
    uint8_t xsave[MV_DEBUG_XSAVE_BYTES]; /* standard format */
};

struct mv_debug_breakpoint {
    uint64_t address; /* as the program sees it; 0: free */
    uint64_t host;    /* where that byte is in the process */
    uint8_t original;
    uint8_t unused[7];
};

struct mv_debug {
    uint32_t magic; /* magic and version are the debugger's, before the core starts */
    uint32_t version;
    /* Written by the debugger. */
    uint32_t attached;    /* signals, breakpoints and stops are wanted */
    uint32_t stopping;    /* whoever gets the signal shall park; new threads shall, too */
    uint32_t debugger;    /* its pid */
    uint32_t kicking;     /* a thread is about to get the signal */
    uint64_t passed;      /* signals, bit n-1 for n, that are delivered without asking */
    uint32_t breakpoints; /* entries that have been used: those below */
    uint32_t unused;
    /* Written by the core. */
    uint32_t pid;
    uint32_t ring;
    uint32_t left;   /* the program executes another, or goes on natively */
    uint32_t ended;  /* `status` is valid */
    uint32_t status; /* as wait(2) gives it */
    uint32_t groups; /* slots that have been used: those below */
    uint32_t xsave_bytes;
    uint64_t xcr0;
    uint64_t region_start, region_end; /* the core's memory, which the program does not see */
    uint64_t tables_root;              /* guest physical: the HRT's page tables */
    uint64_t memory_gpa, memory_host, memory_bytes; /* the AeroKernel's memory */
    uint64_t kernel_start, kernel_end;              /* code of the AeroKernel's image */
    uint64_t stack;                                 /* the program's first stack pointer */
    char program[4096];                             /* its file */
    struct mv_debug_breakpoint breakpoint[MV_DEBUG_BREAKPOINTS];
    struct mv_debug_group group[MV_DEBUG_GROUPS];
};
