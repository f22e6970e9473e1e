/*
 * The trace: a fixed-size array of events in a shared file mapping, appended
 * to by every group of every process of the program. Also an argument of
 * cffi's cdef(): plain declarations only.
 *
 * File layout: one struct mv_trace_header, then `capacity` events. A writer
 * takes its index with an atomic add on `next`; indices at or past `capacity`
 * are dropped, and `next - capacity` says how many were.
 */
enum {
    MV_TRACE_MAGIC = 0x5254564d, /* "MVTR" */
    MV_TRACE_VERSION = 3,
};

enum mv_trace_kind {
    MV_TRACE_NONE,        /* the writer died between taking the index and storing the kind */
    MV_TRACE_SYSCALL,     /* nr, a[0..3]: arguments, result; begin, end */
    MV_TRACE_SYNC,        /* the same, answered by a poller */
    MV_TRACE_EXCEPTION,   /* nr: vector, a[0]: error code, a[1]: RIP, a[2]: CR2 */
    MV_TRACE_FAULT,       /* a[1]: RIP; the access that Linux refused */
    MV_TRACE_KICK,        /* a[1]: RIP where the signal found the program */
    MV_TRACE_MERGE,       /* a[0]: window start, a[1]: window bytes, a[2]: guest physical */
    MV_TRACE_REPLICATION, /* a[1]: RIP, result: 0 completed, else the signal raised */
    MV_TRACE_SIGNAL,      /* nr: signal, a[0]: handler, a[1]: RIP interrupted */
    MV_TRACE_GROUP_START, /* a group begins */
    MV_TRACE_GROUP_END,   /* a group ends */
    MV_TRACE_KIND_COUNT,
};

struct mv_trace_event {
    uint64_t begin; /* TSC */
    uint64_t end;   /* TSC; equal to begin for instants */
    uint32_t pid;
    uint32_t tid;
    uint16_t kind; /* enum mv_trace_kind */
    uint16_t reserved;
    uint32_t nr;
    int64_t result;
    uint64_t a[4];
    uint64_t asked; /* in a profile, of a system call: TSC at which the HRT asked, 0 if unknown */
};

struct mv_trace_header {
    uint32_t magic;
    uint32_t version;
    uint64_t capacity; /* events the file has room for */
    uint64_t next;     /* events begun, dropped ones included */
    uint64_t tsc_hz;   /* TSC frequency, Hz, written by the command line */
    uint64_t unused[12];
};
