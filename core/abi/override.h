/*
 * What the command line gives the core for `--override`: one blob in a file
 * whose descriptor is in the configuration. It holds the override modules as
 * one image, and what of the program they take over. All offsets are bytes from
 * the blob's beginning; tables are arrays of the structures below.
 *
 * Also an argument of cffi's cdef(): plain declarations and enumerations only.
 */
enum {
    MV_OVERRIDE_MAGIC = 0x524f564d, /* "MVOR" */
    MV_OVERRIDE_VERSION = 3,
    /* The image is linked at AK_MODULES (frame.h), which is AK_BASE + this. */
    MV_OVERRIDE_PLACE = 0x6000000,
    MV_OVERRIDE_IMAGE_MAX = 0x800000, /* bytes */
    MV_OVERRIDE_CODE_MAX = 32,
};

struct mv_override {
    uint32_t magic, version;
    uint64_t size;  /* of the blob */
    uint64_t image; /* offset */
    /* Both are multiples of the page size: executable and read-only, then writable. */
    uint32_t text_size, data_size;
    uint32_t calls, call_table;         /* struct mv_override_call */
    uint32_t files, file_table;         /* struct mv_override_file */
    uint32_t functions, function_table; /* struct mv_override_function */
};

/* A system call that a module answers. */
struct mv_override_call {
    uint32_t nr;
    uint32_t exits;   /* 1: what it leaves to Linux goes by exit, whatever the channel */
    uint64_t wrapper; /* address in the image: an ak_override_call of aerokernel/override.h */
};

/* A file whose functions are taken over when it is mapped executable. */
struct mv_override_file {
    uint64_t device; /* st_dev, as stat(2) gives it */
    uint64_t inode;
    uint64_t size;
    int64_t modified; /* st_mtim in ns */
};

/* A function that a module takes over, or needs the address of. */
struct mv_override_function {
    uint32_t file;     /* index */
    uint32_t length;   /* of what is changed at its beginning when the jump is written, bytes */
    uint64_t offset;   /* in the file */
    uint64_t wrapper;  /* address in the image; 0: the function stays as it is */
    uint64_t original; /* address in the image of the variable that gets the address under which
                          the legacy function can be called; 0: none is wanted */
    uint8_t bytes[MV_OVERRIDE_CODE_MAX]; /* what stands there, `length` of it */
    uint8_t moved[MV_OVERRIDE_CODE_MAX]; /* its instructions as they are executed elsewhere */
    /* Offsets in `moved` of 32-bit displacements relative to their instruction's end, and where
     * that end is; 0, 0 for none. The displacements are those for `moved` at the function's place.
     */
    uint8_t displacement[2], end[2];
    uint8_t moved_length;
    uint8_t indirect; /* 1: it is the resolver of an IFUNC; what it chooses is taken over, and what
                         it has chosen is in the variable, which there must be */
    uint8_t unused[2];
};
