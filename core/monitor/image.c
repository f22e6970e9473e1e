// Loading a native program's file into the machine's memory.

#include <linux/fcntl.h>
#include <linux/mman.h>

#include "base/print.h"
#include "base/sys.h"
#include "loader/elf.h"
#include "monitor/monitor.h"

_Noreturn static void refuse(const char *path, const char *why)
{
    mv_die(MV_EXIT_NOT_EXECUTABLE, "kernel: %s: %s; make one by multiverse kernel build", path,
           why);
}

static void read_segment(const struct ldr_image *image, const struct ldr_segment *s,
                         const char *path)
{
    char *to = mon_memory(s->start, s->memory_size);
    if (!to)
        mv_die(MV_EXIT_FAILURE, "kernel: %s: the program does not fit; give it more --memory",
               path);
    for (uint64_t done = 0; done < s->file_size;) {
        long n = sys4(__NR_pread64, image->fd, to + done, s->file_size - done, s->offset + done);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            refuse(path, n ? mv_strerror(n) : "the file has been cut off");
        done += (uint64_t)n;
    }
}

// The program says where it begins; what it says is only ever used inside its machine.
static void read_header(uint64_t start, const char *path)
{
    const char *at = mon_memory(start, sizeof(mon.program));
    if (start == MV_NATIVE_BASE && at)
        mon.program = *(const struct mv_native *)at;
    if (mon.program.magic != MV_NATIVE_MAGIC)
        refuse(path, "not a native program");
    if (mon.program.version != MV_NATIVE_VERSION || mon.program.layout != MV_NATIVE_LAYOUT)
        refuse(path, "made by another version of Multiverse");
}

uint64_t mon_load(const char *path, struct nl_segment *segment, unsigned *segments)
{
    static struct ldr_image image;
    const char *why;
    int err = ldr_open(path, &image, &why);
    if (err == -ENOENT || err == -ENOTDIR)
        mv_die(MV_EXIT_NOT_FOUND, "kernel: %s: not found; check the name", path);
    if (why)
        refuse(path, why);
    if (err)
        mv_die(MV_EXIT_NOT_EXECUTABLE, "kernel: %s: %s; check the file", path, mv_strerror(err));
    if (!image.fixed || image.interp[0] || image.segment[0].start != MV_NATIVE_BASE)
        refuse(path, "not a native program");
    for (unsigned i = 0; i < image.segments; i++) {
        const struct ldr_segment *s = &image.segment[i];
        read_segment(&image, s, path);
        segment[i] = (struct nl_segment){.start = s->start,
                                         .size = s->memory_size,
                                         .access = (s->prot & PROT_WRITE ? AK_WRITE : 0) |
                                                   (s->prot & PROT_EXEC ? AK_EXECUTE : 0)};
    }
    *segments = image.segments;
    read_header(image.segment[0].start, path);
    sys1(__NR_close, image.fd);
    return image.high;
}
