#include "files.h"

#include <aerokernel/override.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/stat.h>

enum { FILES = 1024, SEEK_SET = 0, SEEK_CUR = 1, SEEK_END = 2 };
#define XFS_SUPER_MAGIC 0x58465342

// Every file system has files of this size.
#define OFFSET_MAX ((1LL << 31) - 1)

// What is known of a descriptor, if it is open.
enum state {
    OWN,    // nobody else has its open file
    SHARED, // somebody may have
    UNFIT,  // no regular file, or one whose offset means more than a place in it
    KEPT,   // a regular file of our own, its offset is here
    EMPTY,  // an epoll instance of our own to which nothing has been added
};

static struct file {
    enum state state;
    int flags;      // as F_GETFL has them; -1: not known
    int64_t offset; // where the program is
    int64_t theirs; // where Linux is
} files[FILES];
static unsigned kept;  // how many are KEPT
static unsigned end;   // above all that have been
static uint32_t owner; // the process; 0: none yet
static bool stopped;
static uint64_t known_device; // of a file system whose files are fit; 0: none yet

// What Linux writes to.
static union scratch {
    struct pollfd {
        int fd;
        short events, revents;
    } poll[FILES];
    struct {
        struct stat stat;
        struct statfs statfs;
    };
} *scratch;

static struct file *find(unsigned fd)
{
    return fd < FILES ? &files[fd] : NULL;
}

static struct file *find_kept(unsigned fd)
{
    struct file *file = find(fd);
    return file && file->state == KEPT ? file : NULL;
}

static void set_state(struct file *file, enum state state)
{
    kept -= file->state == KEPT;
    kept += state == KEPT;
    file->state = state;
}

static void flush(struct file *file)
{
    if (file->offset == file->theirs)
        return;
    ak_linux(__NR_lseek, (uint64_t)(file - files), (uint64_t)file->offset, SEEK_SET, 0, 0, 0);
    file->theirs = file->offset;
}

static void flush_all(void)
{
    for (unsigned i = 0; kept && i < end; i++)
        if (files[i].state == KEPT)
            flush(&files[i]);
}

// From now on the descriptor's offset is Linux's.
static void give_back(unsigned fd, enum state state)
{
    struct file *file = find(fd);
    if (!file)
        return;
    if (file->state == KEPT)
        flush(file);
    set_state(file, state);
}

static void stop(void)
{
    flush_all();
    stopped = true;
}

// What is open has, or is about to get, other users.
static void share_all(void)
{
    flush_all();
    for (int i = 0; i < FILES; i++)
        scratch->poll[i] = (struct pollfd){.fd = i};
    if (ak_linux(__NR_poll, (uint64_t)scratch->poll, FILES, 0, 0, 0, 0) < 0) {
        stop();
        return;
    }
    for (unsigned i = 0; i < FILES; i++) {
        enum { NOT_OPEN = 0x20 }; // POLLNVAL
        set_state(&files[i], scratch->poll[i].revents & NOT_OPEN ? OWN : SHARED);
    }
    end = 0;
}

static void begin(uint32_t pid)
{
    int64_t at = ak_linux(__NR_mmap, 0, sizeof(*scratch), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
    owner = pid;
    stopped = at < 0;
    if (stopped)
        return;
    scratch = (union scratch *)at;
    share_all();
}

// False in a process that another one has made, which may share this memory, but not its table of
// descriptors, and where no offsets are kept any more.
static bool is_on(void)
{
    if (stopped)
        return false;
    const struct ak_identity *me = ak_identity();
    if (!me)
        stop();
    else if (!owner)
        begin(me->pid);
    return !stopped && me->pid == owner;
}

// ---- Beginning to keep an offset ----------------------------------------------------------------

// Of the open file that scratch->stat describes. One in /proc, say, may tell other files' offsets.
static bool is_fit(unsigned fd)
{
    if (!S_ISREG(scratch->stat.st_mode))
        return false;
    if (known_device && scratch->stat.st_dev == known_device)
        return true;
    if (ak_linux(__NR_fstatfs, fd, (uint64_t)&scratch->statfs, 0, 0, 0, 0))
        return false;
    switch (scratch->statfs.f_type) {
    case BTRFS_SUPER_MAGIC:
    case EXT4_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case XFS_SUPER_MAGIC:
        known_device = scratch->stat.st_dev;
        return true;
    default:
        return false;
    }
}

// A first lseek: it is Linux's, and tells where the file is from then on.
static int64_t keep(unsigned fd, int64_t offset, unsigned whence)
{
    struct file *file = find(fd);
    if (!file || file->state != OWN ||
        ak_linux(__NR_fstat, fd, (uint64_t)&scratch->stat, 0, 0, 0, 0))
        return AK_FALLBACK;
    if (!is_fit(fd)) {
        set_state(file, UNFIT);
        return AK_FALLBACK;
    }
    int64_t at = ak_linux(__NR_lseek, fd, (uint64_t)offset, whence, 0, 0, 0);
    if (at < 0)
        return at;
    set_state(file, KEPT);
    file->offset = file->theirs = at;
    file->flags = -1;
    end = fd < end ? end : fd + 1;
    return at;
}

// ---- Calls that are answered --------------------------------------------------------------------

int64_t files_seek(unsigned fd, int64_t offset, unsigned whence)
{
    if (!is_on())
        return AK_FALLBACK;
    struct file *file = find_kept(fd);
    if (!file)
        return keep(fd, offset, whence);
    int64_t to = offset;
    bool near = offset >= -OFFSET_MAX && offset <= OFFSET_MAX;
    if (whence == SEEK_CUR && near)
        to += file->offset;
    if (whence <= SEEK_CUR && near && (to == file->offset || (to >= 0 && to <= OFFSET_MAX)))
        return file->offset = to;
    if (whence == SEEK_CUR)
        flush(file);
    to = ak_linux(__NR_lseek, fd, (uint64_t)offset, whence, 0, 0, 0);
    if (to >= 0)
        file->offset = file->theirs = to;
    return to;
}

// Read or write where the program is.
static int64_t transfer(struct file *file, unsigned plain, unsigned placed, uint64_t buffer,
                        size_t size)
{
    bool same = file->offset == file->theirs;
    int64_t done = ak_linux(same ? plain : placed, (uint64_t)(file - files), buffer, size,
                            (uint64_t)file->offset, 0, 0);
    if (done > 0) {
        file->offset += done;
        file->theirs += same ? done : 0;
    }
    return done;
}

int64_t files_read(unsigned fd, void *to, size_t size)
{
    if (!is_on())
        return AK_FALLBACK;
    struct file *file = find_kept(fd);
    if (file)
        return transfer(file, __NR_read, __NR_pread64, (uint64_t)to, size);
    flush_all(); // it may be one of /proc's
    return AK_FALLBACK;
}

static int64_t flags_of(unsigned fd, struct file *file)
{
    if (file->flags < 0)
        file->flags = (int)ak_linux(__NR_fcntl, fd, F_GETFL, 0, 0, 0, 0);
    return file->flags;
}

int64_t files_write(unsigned fd, const void *from, size_t size)
{
    struct file *file = is_on() ? find_kept(fd) : NULL;
    if (!file)
        return AK_FALLBACK;
    int64_t flags = flags_of(fd, file);
    if (flags < 0 || flags & O_APPEND) {
        give_back(fd, OWN); // it goes to the end, wherever that is
        return AK_FALLBACK;
    }
    return transfer(file, __NR_write, __NR_pwrite64, (uint64_t)from, size);
}

int64_t files_epoll_create(unsigned nr, uint64_t argument)
{
    if (!is_on())
        return AK_FALLBACK;
    int64_t fd = ak_linux(nr, argument, 0, 0, 0, 0, 0);
    struct file *file = fd < 0 ? NULL : find((unsigned)fd);
    if (file)
        set_state(file, EMPTY);
    return fd;
}

int64_t files_epoll_poll(unsigned fd, const void *events, int count)
{
    enum { MOST = 4096, EVENT_BYTES = 12 };
    struct file *file = is_on() ? find(fd) : NULL;
    bool valid =
        count > 0 && count <= MOST && (uint64_t)events <= AK_PROGRAM_END - MOST * EVENT_BYTES;
    return file && file->state == EMPTY && valid ? 0 : AK_FALLBACK;
}

static int64_t duplicate(unsigned nr, unsigned fd, uint64_t command, uint64_t argument)
{
    give_back(fd, SHARED);
    int64_t other = ak_linux(nr, fd, command, argument, 0, 0, 0);
    if (other >= 0)
        give_back((unsigned)other, SHARED);
    return other;
}

int64_t files_dup(unsigned fd)
{
    return is_on() ? duplicate(__NR_dup, fd, 0, 0) : AK_FALLBACK;
}

int64_t files_control(unsigned fd, unsigned command, uint64_t argument)
{
    if (!is_on())
        return AK_FALLBACK;
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        return duplicate(__NR_fcntl, fd, command, argument);
    struct file *file = find_kept(fd);
    if (!file)
        return AK_FALLBACK;
    if (command == F_GETFL)
        return flags_of(fd, file);
    if (command == F_SETFL)
        file->flags = -1;
    flush(file); // locks may be relative to it
    return AK_FALLBACK;
}

// ---- Calls that are Linux's ---------------------------------------------------------------------

void files_close(unsigned fd)
{
    struct file *file = is_on() ? find(fd) : NULL;
    if (file)
        set_state(file, OWN); // an offset that nobody sees any more
}

void files_epoll_control(unsigned fd)
{
    struct file *file = is_on() ? find(fd) : NULL;
    if (file && file->state == EMPTY)
        set_state(file, OWN);
}

void files_become(unsigned fd, unsigned other)
{
    if (is_on()) {
        give_back(fd, SHARED);
        give_back(other, SHARED);
    }
}

void files_use(int fd, int other)
{
    if (!is_on())
        return;
    if (find_kept((unsigned)fd))
        give_back((unsigned)fd, OWN);
    if (find_kept((unsigned)other))
        give_back((unsigned)other, OWN);
    flush_all();
}

void files_flush(void)
{
    if (is_on())
        flush_all();
}

void files_share(void)
{
    if (is_on())
        share_all();
}

void files_stop(void)
{
    if (is_on())
        stop();
}

// Some hand files to other processes.
void files_ioctl(unsigned fd, unsigned command)
{
    enum { TERMINALS = 'T', SOCKETS = 0x89 };
    unsigned type = command >> 8 & 0xff;
    if (type != TERMINALS && type != SOCKETS)
        files_stop();
    else if (find_kept(fd))
        files_use((int)fd, -1);
}

void files_clone(uint64_t flags)
{
    const uint64_t unseen = CLONE_THREAD | CLONE_FILES | CLONE_NEWPID;
    if (flags & unseen || (flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
        files_stop();
    else
        files_share();
}

void files_clone3(const void *arguments, size_t size)
{
    uint64_t flags;
    bool known = size >= sizeof(flags) && ak_copy_in(&flags, arguments, sizeof(flags)) == 0;
    files_clone(known ? flags : CLONE_THREAD);
}

void files_message(const void *header, bool sent)
{
    struct {
        uint64_t name, name_size, parts, count, control, control_size;
    } message;
    if (!is_on() || (ak_copy_in(&message, header, sizeof(message)) == 0 && !message.control_size))
        return;
    if (sent)
        share_all();
    else
        stop();
}
