#include "loader/elf.h"

#include <asm/fcntl.h>
#include <asm/stat.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

#include "base/string.h"
#include "base/sys.h"

#define PF_ALL (PF_R | PF_W | PF_X)

static int64_t read_at(int fd, void *buf, uint64_t size, uint64_t offset)
{
    return sys4(__NR_pread64, fd, buf, size, offset);
}

static const char *check_header(const struct elf64_hdr *h)
{
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
        return "not an ELF file";
    if (h->e_ident[EI_CLASS] != ELFCLASS64)
        return "not a 64-bit ELF file";
    if (h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
        return "not for x86-64";
    if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
        return "not an executable";
    if (h->e_phentsize != sizeof(struct elf64_phdr) || !h->e_phnum || h->e_phnum > LDR_SEGMENTS_MAX)
        return "bad program header table";
    return NULL;
}

// Check one PT_LOAD and add it. Everything that arithmetic is done with later is bounded here.
static const char *add_segment(struct ldr_image *image, const struct elf64_phdr *p, uint64_t size)
{
    if (p->p_memsz == 0)
        return NULL;
    if (p->p_filesz > p->p_memsz || p->p_vaddr >= TASK_END || p->p_memsz > TASK_END - p->p_vaddr)
        return "segment outside the address space";
    if (p->p_filesz && (p->p_offset > size || p->p_filesz > size - p->p_offset))
        return "the file is truncated";
    if (p->p_filesz && (p->p_vaddr - p->p_offset) % PAGE_SIZE)
        return "misaligned segment";
    if (image->segments && p->p_vaddr < image->high - (image->high ? PAGE_SIZE - 1 : 0))
        return "segments out of order";
    image->segment[image->segments++] = (struct ldr_segment){
        .start = p->p_vaddr,
        .file_size = p->p_filesz,
        .memory_size = p->p_memsz,
        .offset = p->p_offset,
        .prot = (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
                (p->p_flags & PF_X ? PROT_EXEC : 0)};
    if (image->segments == 1)
        image->low = ALIGN_DOWN(p->p_vaddr, PAGE_SIZE);
    image->high = ALIGN_UP(p->p_vaddr + p->p_memsz, PAGE_SIZE);
    return NULL;
}

static const char *read_interp(struct ldr_image *image, const struct elf64_phdr *p)
{
    if (p->p_filesz < 2 || p->p_filesz > sizeof(image->interp) ||
        read_at(image->fd, image->interp, p->p_filesz, p->p_offset) != (int64_t)p->p_filesz ||
        image->interp[p->p_filesz - 1])
        return "bad interpreter name";
    return NULL;
}

static const char *check_segments(struct ldr_image *image, const struct elf64_hdr *h, uint64_t size)
{
    struct elf64_phdr table[LDR_SEGMENTS_MAX];
    uint64_t bytes = h->e_phnum * sizeof(table[0]);
    if (h->e_phoff > size || read_at(image->fd, table, bytes, h->e_phoff) != (int64_t)bytes)
        return "the file is truncated";
    for (unsigned i = 0; i < h->e_phnum; i++) {
        const struct elf64_phdr *p = &table[i];
        const char *why = NULL;
        if (p->p_type == PT_LOAD)
            why = add_segment(image, p, size);
        else if (p->p_type == PT_INTERP)
            why = read_interp(image, p);
        else if (p->p_type == PT_GNU_STACK)
            image->stack_executable = p->p_flags & PF_X;
        if (why)
            return why;
        if (p->p_type == PT_LOAD && p->p_offset <= h->e_phoff && h->e_phoff < size &&
            h->e_phoff - p->p_offset < p->p_filesz)
            image->phdr = p->p_vaddr + (h->e_phoff - p->p_offset);
    }
    if (!image->segments)
        return "nothing to load";
    for (unsigned i = 0; i < image->segments; i++) {
        const struct ldr_segment *s = &image->segment[i];
        if ((s->prot & PROT_EXEC) && h->e_entry - s->start < s->memory_size)
            return NULL;
    }
    return "the entry point is not in an executable segment";
}

int ldr_open(const char *path, struct ldr_image *ret, const char **why)
{
    struct elf64_hdr header;
    struct statx st;
    memset(ret, 0, sizeof(*ret));
    long fd = sys3(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    *why = NULL;
    if (fd < 0)
        return (int)fd;
    ret->fd = (int)fd;
    long err = sys5(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
    if (!err && !S_ISREG(st.stx_mode))
        err = -EACCES;
    if (!err)
        err = sys3(__NR_faccessat, AT_FDCWD, path, 1 /* X_OK */);
    if (!err) {
        int64_t n = read_at(ret->fd, &header, sizeof(header), 0);
        *why = n == (int64_t)sizeof(header) ? check_header(&header) : "too short for an ELF file";
        if (!*why) {
            ret->fixed = header.e_type == ET_EXEC;
            ret->entry = header.e_entry;
            ret->phnum = header.e_phnum;
            *why = check_segments(ret, &header, st.stx_size);
        }
        err = *why ? -ENOEXEC : 0;
    }
    if (err)
        sys1(__NR_close, fd);
    return (int)err;
}

// The part of a segment that the file backs, then the rest, which is zero.
static int map_segment(const struct ldr_image *image, const struct ldr_segment *s)
{
    uint64_t start = s->start + image->bias, file_end = start + s->file_size;
    uint64_t page = ALIGN_DOWN(start, PAGE_SIZE), zero = page;
    if (s->file_size) {
        uint64_t at = sys_mmap(page, file_end - page, s->prot, MAP_PRIVATE | MAP_FIXED, image->fd,
                               s->offset - (start - page));
        if (sys_failed(at))
            return (int)at;
        zero = ALIGN_UP(file_end, PAGE_SIZE);
        if (s->memory_size > s->file_size && (s->prot & PROT_WRITE))
            memset((void *)file_end, 0, zero - file_end);
    }
    uint64_t end = ALIGN_UP(start + s->memory_size, PAGE_SIZE);
    if (end > zero) {
        uint64_t at =
            sys_mmap(zero, end - zero, s->prot, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
        if (sys_failed(at))
            return (int)at;
    }
    return 0;
}

int ldr_map(struct ldr_image *image, uint64_t at)
{
    uint64_t size = image->high - image->low;
    uint64_t want = image->fixed ? image->low : at;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (want ? MAP_FIXED_NOREPLACE : 0);
    uint64_t got = sys_mmap(want, size, PROT_NONE, flags, -1, 0);
    if (sys_failed(got))
        return (int)got;
    image->bias = got - image->low;
    int err = 0;
    for (unsigned i = 0; i < image->segments && !err; i++)
        err = map_segment(image, &image->segment[i]);
    // As Linux does: what lies between segments is nobody's.
    for (unsigned i = 0; i + 1 < image->segments && !err; i++) {
        uint64_t end = ALIGN_UP(image->segment[i].start + image->segment[i].memory_size, PAGE_SIZE);
        uint64_t next = ALIGN_DOWN(image->segment[i + 1].start, PAGE_SIZE);
        if (next > end)
            sys2(__NR_munmap, end + image->bias, next - end);
    }
    return err;
}
