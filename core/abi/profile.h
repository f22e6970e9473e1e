/*
 * The profile: what a program asks Linux for, from where, and what that costs. A shared file
 * mapping that every group of every process of the program adds to. Also an argument of cffi's
 * cdef(): plain declarations only.
 *
 * File layout: one struct mv_profile, then a trace (trace.h) for the timeline.
 *
 * Tables with a `state` are filled without locks: 0 free, 1 being filled, 2 valid. Whoever finds
 * a table full counts in `rest`, so that counts stay exact. Times are TSC cycles.
 */
enum {
    MV_PROFILE_MAGIC = 0x4650564d, /* "MVPF" */
    MV_PROFILE_VERSION = 1,
    MV_PROFILE_PROCESSES = 512,
    MV_PROFILE_GROUPS = 4096,
    MV_PROFILE_SITES = 16384,
    MV_PROFILE_RANGES = 16384,
    MV_PROFILE_SAMPLES = 2048,
    MV_PROFILE_CALLS = 512,   /* numbers of system calls; the last stands for all beyond */
    MV_PROFILE_RESTS = 544,   /* by system call, then by kind of event (enum mv_trace_kind) */
    MV_PROFILE_FRAMES = 16,   /* of a backtrace by frame pointers */
    MV_PROFILE_WORDS = 512,   /* of the stack that a sample keeps */
    MV_PROFILE_CHUNKS = 4096, /* pieces of /proc/PID/maps */
    MV_PROFILE_CHUNK = 4072,
    MV_PROFILE_PATH = 256,
    MV_PROFILE_RANGE_BITS = 16, /* addresses are told apart by 64 KiB */
};

/* Values of mv_profile_range.flags. */
enum { MV_PROFILE_MAPPED = 1 /* by this call */, MV_PROFILE_ANONYMOUS = 2 };

struct mv_profile_counts {
    uint64_t count;
    uint64_t sync;    /* of these, answered by pollers */
    uint64_t exits;   /* of these, what the virtual CPU left the virtual machine for */
    uint64_t stamped; /* of the exits, those whose way to the ROS is in `wait` */
    uint64_t wait;    /* from the request until somebody took it up */
    uint64_t call;    /* in the call: Linux, and what the core does for it */
    uint64_t blocked; /* of these, those in which the thread was not on a processor */
    uint64_t back;    /* of exits: on the ROS side, but not in a call */
};

struct mv_profile_process {
    uint32_t state;
    uint32_t pid, parent;
    uint32_t ring;
    uint64_t begin;
    uint64_t end; /* 0: it was killed, or is still there */
    char path[MV_PROFILE_PATH];
};

struct mv_profile_group {
    uint32_t state;
    uint32_t process; /* index */
    uint32_t pid, tid;
    uint64_t begin;
    uint64_t last;     /* of its last event */
    uint64_t ended;    /* 1: that was its end, else it ended with its process */
    uint64_t overhead; /* what all this counting took */
    struct mv_profile_counts counts;
};

struct mv_profile_site {
    uint32_t state;
    uint16_t process; /* index */
    uint16_t kind;    /* enum mv_trace_kind; MV_TRACE_SYSCALL whoever answered */
    uint32_t nr;
    uint32_t samples;     /* different ones */
    uint64_t next_sample; /* event of this site that is sampled next */
    uint64_t rip;         /* where the virtual CPU was, 0 if unknown */
    uint64_t program_rip; /* where the program believes to be: behind a SYSCALL */
    struct mv_profile_counts counts;
};

/* Events that concern an address, by 2^MV_PROFILE_RANGE_BITS bytes. */
struct mv_profile_range {
    uint32_t state;
    uint16_t process;
    uint16_t kind;
    uint32_t nr;
    uint32_t flags;
    uint64_t address; /* of the first event */
    uint64_t extent;  /* most bytes that one was about */
    uint64_t count;
    uint64_t cycles;
    uint64_t unused[2];
};

/* A stack at a site. */
struct mv_profile_sample {
    uint32_t state;
    uint32_t site; /* index */
    uint64_t hash; /* of the return addresses */
    uint64_t count;
    uint64_t cycles; /* of these events */
    uint64_t tsc;    /* of the first */
    uint64_t rsp, rbp;
    uint32_t frames, words;
    uint64_t frame[MV_PROFILE_FRAMES];       /* return addresses by frame pointers */
    uint64_t returns[MV_PROFILE_WORDS / 64]; /* which words follow a call in code: a bit each */
    uint64_t word[MV_PROFILE_WORDS];         /* the stack from rsp */
};

/* A piece of /proc/PID/maps; those with the same process and tsc belong together, in order. */
struct mv_profile_chunk {
    uint64_t tsc;
    uint32_t process;
    uint32_t bytes; /* 0: being filled */
    char text[MV_PROFILE_CHUNK];
};

struct mv_profile {
    uint32_t magic;
    uint32_t version;
    uint64_t exit_cycles;    /* an exit and the way back, as measured before the program began */
    uint64_t sync_wait_min;  /* shortest way of a request to a poller; all ones: none was seen */
    uint64_t processes;      /* begun; those beyond the table count in `rest` */
    uint64_t groups;         /* begun */
    uint64_t chunks;         /* begun */
    uint64_t ranges_dropped; /* events that `range` has no room for */
    uint64_t samples_dropped;
    uint64_t unused[8];
    struct mv_profile_counts rest[MV_PROFILE_RESTS];
    struct mv_profile_process process[MV_PROFILE_PROCESSES];
    struct mv_profile_group group[MV_PROFILE_GROUPS];
    struct mv_profile_site site[MV_PROFILE_SITES];
    struct mv_profile_range range[MV_PROFILE_RANGES];
    struct mv_profile_sample sample[MV_PROFILE_SAMPLES];
    struct mv_profile_chunk chunk[MV_PROFILE_CHUNKS];
};
