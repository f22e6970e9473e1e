// The core's image goes into a region of its own, as multiverse-core does by itself when it is
// executed (core/main/relocate.c).

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hrt.h"

static const size_t LEAF = 2UL << 20, REGION_SIZE = 2UL << 30, PAGE = 4096;

static size_t align_up(size_t value, size_t to)
{
    return (value + to - 1) / to * to;
}

// The core lies beside this library.
static void default_path(char *ret, size_t size)
{
    Dl_info info;
    const char *slash = dladdr((void *)mv_hrt_create, &info) ? strrchr(info.dli_fname, '/') : NULL;
    int length = slash ? (int)(slash - info.dli_fname) + 1 : 0;
    snprintf(ret, size, "%.*smultiverse-core", length, slash ? info.dli_fname : "");
}

static int reserve(struct region *ret)
{
    char *at = mmap(NULL, REGION_SIZE + LEAF, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return fail(-ENOMEM,
                    "HRT: reserving 2 GiB of address space: %s; raise the limit (ulimit -v)",
                    strerror(errno));
    char *start = (char *)align_up((size_t)at, LEAF), *end = at + REGION_SIZE + LEAF;
    if (start > at)
        munmap(at, (size_t)(start - at));
    if (end > start + REGION_SIZE)
        munmap(start + REGION_SIZE, (size_t)(end - start) - REGION_SIZE);
    *ret = (struct region){.start = start, .size = REGION_SIZE};
    return 0;
}

// A part of the file that has been checked to lie within it; NULL if it does not.
static const void *part(const char *file, size_t size, uint64_t offset, uint64_t length)
{
    return offset <= size && length <= size - offset ? file + offset : NULL;
}

static int relocate(char *base, size_t image, uint64_t dynamic_at)
{
    uint64_t table = 0, bytes = 0;
    for (const Elf64_Dyn *d = (const Elf64_Dyn *)(base + dynamic_at); d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_RELA)
            table = d->d_un.d_ptr;
        if (d->d_tag == DT_RELASZ)
            bytes = d->d_un.d_val;
    }
    if (table > image || bytes > image - table)
        return -ENOEXEC;
    const Elf64_Rela *rela = (const Elf64_Rela *)(base + table);
    for (size_t i = 0; i < bytes / sizeof(*rela); i++) {
        if (ELF64_R_TYPE(rela[i].r_info) != R_X86_64_RELATIVE ||
            rela[i].r_offset > image - sizeof(uint64_t))
            return -ENOEXEC;
        uint64_t value = (uint64_t)base + (uint64_t)rela[i].r_addend;
        memcpy(base + rela[i].r_offset, &value, sizeof(value));
    }
    return 0;
}

// Copy the segments to the region's start, relocate and protect them. Returns -ENOEXEC if the file
// is no core.
static int place(const char *file, size_t size, const struct region *region, size_t *image,
                 const struct mv_attach_header **header)
{
    const Elf64_Ehdr *ehdr = part(file, size, 0, sizeof(*ehdr));
    if (!ehdr || memcmp(ehdr->e_ident, ELFMAG, SELFMAG) != 0 || ehdr->e_type != ET_DYN)
        return -ENOEXEC;
    const Elf64_Phdr *phdr = part(file, size, ehdr->e_phoff, ehdr->e_phnum * sizeof(*phdr));
    uint64_t dynamic = 0;
    *image = 0;
    for (unsigned i = 0; phdr && i < ehdr->e_phnum; i++) {
        if (phdr[i].p_type == PT_DYNAMIC)
            dynamic = phdr[i].p_vaddr;
        if (phdr[i].p_type != PT_LOAD)
            continue;
        if (phdr[i].p_vaddr > region->size / 2 || phdr[i].p_memsz > region->size / 2)
            return -ENOEXEC;
        size_t end = align_up(phdr[i].p_vaddr + phdr[i].p_memsz, PAGE);
        *image = end > *image ? end : *image;
    }
    if (!dynamic || dynamic >= *image || ehdr->e_entry > *image - PAGE)
        return -ENOEXEC;
    if (mprotect(region->start, *image, PROT_READ | PROT_WRITE))
        return -ENOMEM;
    for (unsigned i = 0; i < ehdr->e_phnum; i++) {
        if (phdr[i].p_type != PT_LOAD)
            continue;
        const void *from = part(file, size, phdr[i].p_offset, phdr[i].p_filesz);
        if (!from || phdr[i].p_filesz > phdr[i].p_memsz)
            return -ENOEXEC;
        memcpy(region->start + phdr[i].p_vaddr, from, phdr[i].p_filesz);
    }
    int err = relocate(region->start, *image, dynamic);
    if (err)
        return err;
    for (unsigned i = 0; i < ehdr->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD && !(phdr[i].p_flags & PF_W)) {
            size_t start = phdr[i].p_vaddr / PAGE * PAGE;
            size_t end = align_up(phdr[i].p_vaddr + phdr[i].p_memsz, PAGE);
            if (mprotect(region->start + start, end - start,
                         PROT_READ | (phdr[i].p_flags & PF_X ? PROT_EXEC : 0)))
                return -ENOMEM;
        }
    *header = (const struct mv_attach_header *)(region->start + ehdr->e_entry + MV_ATTACH_OFFSET);
    bool known = (*header)->magic == MV_ATTACH_MAGIC && (*header)->version == MV_ATTACH_VERSION;
    return known ? 0 : -ENOEXEC;
}

static int attach(struct mv_hrt *hrt, const struct mv_attach_header *header, size_t image,
                  const char *config)
{
    struct mv_attach_request request = {
        .region_start = (uint64_t)hrt->region.start,
        .region_end = (uint64_t)hrt->region.start + hrt->region.size,
        .image_size = image,
        .config = config,
        .fault_handler = (uint64_t)worker_fault,
        .restorer = (uint64_t)worker_restorer,
    };
    mv_attach_fn *start = (mv_attach_fn *)((const char *)header + header->attach);
    hrt->core = (struct mv_attach_answer){0};
    int err = start(&request, &hrt->core);
    if (err)
        return fail(err, "HRT: %s: %s; see multiverse doctor", hrt->core.what, strerror(-err));
    hrt->ring = (int)hrt->core.ring;
    return 0;
}

int load_core(struct mv_hrt *hrt, const char *path, const char *config)
{
    char beside[4096];
    if (!path) {
        default_path(beside, sizeof(beside));
        path = beside;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return fail(err, "HRT: %s: %s; install multiverse again", path, strerror(-err));
    }
    size_t size = (size_t)st.st_size, image;
    const char *file = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (file == MAP_FAILED)
        return fail(-ENOEXEC, "HRT: %s: cannot be read; install multiverse again", path);
    int err = reserve(&hrt->region);
    if (!err) {
        const struct mv_attach_header *header;
        err = place(file, size, &hrt->region, &image, &header);
        if (err)
            fail(err, "HRT: %s: %s; library and core are of different versions, install again",
                 path, strerror(-err));
        else
            err = attach(hrt, header, image, config);
        if (err)
            munmap(hrt->region.start, hrt->region.size);
    }
    munmap((void *)file, size);
    return err;
}

void unload_core(struct mv_hrt *hrt)
{
    // What Linux may still call has to stay.
    if (hrt->core.detach() == 0)
        munmap(hrt->region.start, hrt->region.size);
}
