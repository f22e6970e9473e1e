// Override modules: loading them, and what they take over of the program's files.

#include <asm/errno.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/membarrier.h>
#include <linux/mman.h>

#include "base/fds.h"
#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "include/aerokernel/override.h"
#include "rewrite/function.h"
#include "ros/channel.h"
#include "ros/debug.h"

enum { LINKS_MAX = 1 << 16 };

static struct {
    int file;
    const struct mv_override *blob;  // checked, in the region
    uint64_t *at;                    // by function: where it has been taken over, or found
    uint64_t epoch;                  // the last one given
    bool defers_masks;               // a module answers rt_sigprocmask
    struct mv_lock gate;             // held while it is closed
    const struct mv_fat_link *links; // in the region
    uint64_t links_count;
} modules = {.file = -1};

static const void *table(uint32_t offset)
{
    return (const char *)modules.blob + offset;
}

// ---- The blob ----------------------------------------------------------------------------------

static bool holds(const struct mv_override *blob, uint32_t offset, uint64_t count, uint64_t size)
{
    return offset % sizeof(uint64_t) == 0 && offset <= blob->size &&
           count * size <= blob->size - offset;
}

static bool in_text(const struct mv_override *blob, uint64_t address)
{
    return address - AK_MODULES < blob->text_size;
}

static bool in_data(const struct mv_override *blob, uint64_t address)
{
    uint64_t offset = address - AK_MODULES - blob->text_size;
    return offset < blob->data_size && offset % sizeof(uint64_t) == 0;
}

static bool is_sound(const struct mv_override *blob, uint64_t size)
{
    if (size < sizeof(*blob) || blob->magic != MV_OVERRIDE_MAGIC ||
        blob->version != MV_OVERRIDE_VERSION || blob->size != size)
        return false;
    uint64_t image = (uint64_t)blob->text_size + blob->data_size;
    if (image % PAGE_SIZE || blob->text_size % PAGE_SIZE || image > MV_OVERRIDE_IMAGE_MAX ||
        blob->image > size || image > size - blob->image ||
        !holds(blob, blob->call_table, blob->calls, sizeof(struct mv_override_call)) ||
        !holds(blob, blob->file_table, blob->files, sizeof(struct mv_override_file)) ||
        !holds(blob, blob->function_table, blob->functions, sizeof(struct mv_override_function)))
        return false;
    const struct mv_override_call *call =
        (const struct mv_override_call *)((const char *)blob + blob->call_table);
    for (unsigned i = 0; i < blob->calls; i++)
        if (call[i].nr >= MV_ROUTES || !in_text(blob, call[i].wrapper))
            return false;
    const struct mv_override_function *function =
        (const struct mv_override_function *)((const char *)blob + blob->function_table);
    for (unsigned i = 0; i < blob->functions; i++)
        if (function[i].file >= blob->files ||
            (function[i].wrapper && !in_text(blob, function[i].wrapper)) ||
            (function[i].original && !in_data(blob, function[i].original)))
            return false;
    return true;
}

// Check the blob, which lies in the region.
static int take(const char *bytes, uint64_t size)
{
    const struct mv_override *blob = (const struct mv_override *)bytes;
    if (!is_sound(blob, size))
        return -EPROTO;
    if (blob->functions) {
        modules.at = mv_region_alloc(blob->functions * sizeof(uint64_t));
        if (!modules.at)
            return -ENOMEM;
    }
    // Cheap only as long as there is no virtual machine (main.c).
    sys3(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    modules.blob = blob;
    return 0;
}

static bool is_size(uint64_t size)
{
    return size >= sizeof(struct mv_override) && size <= 2 * MV_OVERRIDE_IMAGE_MAX;
}

static int64_t read_all(int fd, char *to, uint64_t size)
{
    uint64_t done = 0;
    while (done < size) {
        long n = sys4(__NR_pread64, fd, to + done, size - done, done);
        if (n <= 0 && n != -EINTR)
            return n ? n : -EPROTO;
        done += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

int ros_override_open(int fd)
{
    struct stat st;
    int64_t err = sys2(__NR_fstat, fd, &st);
    if (err)
        return (int)err;
    uint64_t size = (uint64_t)st.st_size;
    if (!is_size(size))
        return -EPROTO;
    char *blob = mv_region_alloc(size);
    if (!blob)
        return -ENOMEM;
    err = read_all(fd, blob, size);
    if (!err)
        err = take(blob, size);
    if (!err)
        mv_fd_own(&modules.file, fd);
    return (int)err;
}

int ros_override_take(const char *blob, uint64_t size)
{
    char *own = is_size(size) ? mv_region_alloc(size) : NULL;
    if (!own)
        return is_size(size) ? -ENOMEM : -EPROTO;
    memcpy(own, blob, size);
    return take(own, size);
}

int ros_override_file(void)
{
    return modules.file;
}

int ros_override_load(void)
{
    const struct mv_override *blob = modules.blob;
    if (!blob)
        return 0;
    int err =
        ros_space_load_modules((const char *)blob + blob->image, blob->text_size, blob->data_size);
    if (err)
        return err;
    if (blob->functions && !ros.hvm.limits.fsgsbase && !ros.quiet)
        mv_error("run: override modules: the processor has no FSGSBASE; functions are not taken "
                 "over, only system calls");
    const struct mv_override_call *call = table(blob->call_table);
    for (unsigned i = 0; i < blob->calls; i++) {
        ros_space_wrappers()[call[i].nr] = call[i].wrapper;
        uint8_t *route = &ros_space_control()->route[call[i].nr];
        // A debugger hears of a signal when it comes, not when it may be delivered.
        if (call[i].nr == __NR_rt_sigprocmask && !ros_debug_on() && !ros.attached)
            ros_space_control()->machine.defers_masks = modules.defers_masks = true;
        *route = MV_ROUTE_LOCAL | MV_ROUTE_MODULE | (call[i].exits ? 0 : *route);
    }
    return 0;
}

bool ros_override_answers(unsigned nr)
{
    const uint64_t *wrappers = ros_space_wrappers();
    return wrappers && wrappers[nr];
}

// ---- Functions ---------------------------------------------------------------------------------

static bool is_file(const struct mv_override_file *file, const struct stat *st)
{
    return file->device == st->st_dev && file->inode == st->st_ino &&
           file->size == (uint64_t)st->st_size &&
           file->modified == (int64_t)(st->st_mtime * 1000000000 + st->st_mtime_nsec);
}

// Take over one function, or learn where it is. A file that is mapped once more keeps the second
// mapping's functions.
static void take_over(unsigned index, const struct mv_override_function *function, uint64_t at)
{
    uint64_t original = at;
    if (READ_ONCE(modules.at[index]))
        return;
    if (function->wrapper)
        original = rw_take_over(at, function);
    // What a resolver chooses is not known yet.
    uint64_t *slot = function->indirect ? NULL : ros_space_module_word(function->original);
    if (slot && original)
        WRITE_ONCE(*slot, original);
    WRITE_ONCE(modules.at[index], original);
}

void ros_override_mapped(uint64_t start, uint64_t size, int fd, uint64_t offset)
{
    const struct mv_override *blob = modules.blob;
    struct stat st;
    // Without FSGSBASE there would be no finding the virtual CPU's data.
    if (!blob || !blob->functions || !ros.hvm.limits.fsgsbase || sys2(__NR_fstat, fd, &st))
        return;
    const struct mv_override_file *file = table(blob->file_table);
    const struct mv_override_function *function = table(blob->function_table);
    for (unsigned i = 0; i < blob->functions; i++) {
        const struct mv_override_function *f = &function[i];
        uint64_t from = f->offset - offset;
        if (f->offset >= offset && from < size && f->length <= size - from &&
            is_file(&file[f->file], &st))
            take_over(i, f, start + from);
    }
}

int ros_override_link(const struct mv_fat_link *links, uint64_t count)
{
    const struct mv_override *blob = modules.blob;
    if (!blob || !count || !ros.hvm.limits.fsgsbase)
        return 0;
    if (count > LINKS_MAX)
        return -E2BIG;
    struct mv_fat_link *own = mv_region_alloc(ALIGN_UP(count * sizeof(*own), PAGE_SIZE));
    if (!own)
        return -ENOMEM;
    memcpy(own, links, count * sizeof(*own)); // the program's can be written to
    modules.links = own;
    modules.links_count = count;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t *original = ros_space_module_word(own[i].original);
        if (original)
            *original = own[i].legacy;
        if (own[i].slot && in_text(blob, own[i].wrapper))
            ros_copy_out((uint64_t)own[i].slot, &own[i].wrapper, sizeof(own[i].wrapper));
    }
    return 0;
}

void ros_override_leave(void)
{
    if (!modules.blob)
        return;
    rw_give_back();
    for (uint64_t i = 0; i < modules.links_count; i++) {
        const struct mv_fat_link *link = &modules.links[i];
        if (link->slot)
            ros_copy_out((uint64_t)link->slot, &link->legacy, sizeof(link->legacy));
    }
}

// ---- Threads and processes ---------------------------------------------------------------------

bool ros_override_defers_masks(void)
{
    return modules.defers_masks;
}

void ros_override_identify(struct ros_group *group)
{
    if (!modules.blob)
        return;
    group->identity->pid = group->id.pid;
    group->identity->tid = group->id.tid;
    group->identity->cpu = group->vcpu.id;
    WRITE_ONCE(group->identity->epoch, __atomic_add_fetch(&modules.epoch, 1, __ATOMIC_RELAXED));
}

void ros_override_close(const struct ros_group *self)
{
    enum { TURNS_MAX = 100000 }; // some seconds; after that the program itself is at fault
    if (!modules.blob)
        return;
    mv_lock(&modules.gate);
    WRITE_ONCE(ros_space_control()->closed, 1);
    sys3(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    for (unsigned i = 0; i < ros_groups_count(); i++) {
        const struct ros_group *group = ros_group_at(i);
        for (unsigned turn = 0; group != self && READ_ONCE(group->busy) &&
                                ros_override_holds(group) && turn < TURNS_MAX;
             turn++)
            sys0(__NR_sched_yield);
    }
}

void ros_override_reopen(void)
{
    if (!modules.blob)
        return;
    WRITE_ONCE(ros_space_control()->closed, 0);
    mv_unlock(&modules.gate);
}
