/*
 * Counters that the core keeps in a shared file mapping and the command line
 * reads when the program has ended.
 *
 * This header is also the argument of cffi's cdef(), so it holds plain type
 * declarations and enumerations only. Counters are added to atomically by
 * every process of the program that still runs as an HRT.
 */
enum {
    MV_STATS_MAGIC = 0x5453564d, /* "MVST" */
    MV_STATS_VERSION = 4,
    MV_STATS_SYSCALLS = 512,
    MV_STATS_VECTORS = 32,
};

/* Why control went from the HRT to the ROS: one counter an event. */
enum mv_event {
    MV_EVENT_SYSCALL,     /* a system call, answered by the partner: asynchronous */
    MV_EVENT_SYNC,        /* a system call, answered by a poller: synchronous */
    MV_EVENT_EXCEPTION,   /* an exception taken through the AeroKernel's IDT */
    MV_EVENT_FAULT,       /* KVM_RUN gave EFAULT: Linux does not map the access */
    MV_EVENT_KICK,        /* KVM_RUN gave EINTR: a signal for the program */
    MV_EVENT_MERGE,       /* a window of the address space was merged on demand */
    MV_EVENT_REPLICATION, /* an access was replicated on the ROS side */
    MV_EVENT_SIGNAL,      /* a signal frame was built for a handler */
    MV_EVENT_COUNT,
};

struct mv_stats {
    uint32_t magic;
    uint32_t version;
    uint32_t ring;              /* ring the program ran at: 0 or 3; 255 before it is known */
    uint32_t hrt;               /* 1 once a virtual CPU has run; 0: the program ran natively */
    uint64_t processes;         /* processes that ran as an HRT */
    uint64_t groups;            /* execution groups made, all processes together */
    uint64_t groups_peak;       /* most groups alive at one time in one process */
    uint64_t vcpus;             /* virtual CPUs made */
    uint64_t slots;             /* memory slots in use in the first process */
    uint64_t slot_bytes;        /* bytes of address space behind those slots */
    uint64_t guest_memory_peak; /* bytes: peak resident set of the first process */
    uint64_t populated;         /* bytes of the program's memory that were populated ahead */
    uint64_t vm_setup_cycles;   /* TSC cycles from the VM's creation to the first entry */
    uint64_t exit_cycles;       /* TSC cycles that an exit and the way back take */
    uint64_t events[MV_EVENT_COUNT];
    uint64_t event_cycles[MV_EVENT_COUNT]; /* TSC cycles spent on the ROS side for each */
    uint64_t syscalls[MV_STATS_SYSCALLS];  /* by number; numbers beyond are added to the last */
    uint64_t sync[MV_STATS_SYSCALLS];      /* of these, answered by pollers */
    uint64_t exceptions[MV_STATS_VECTORS]; /* by vector */
};
