// The core in this process: its image is mapped and called as a fat binary does it (core/fat/).

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/fat.h"
#include "hrt.h"

static const size_t PAGE = 4096;
static const size_t LIMIT = 64UL << 20; // of an image

static size_t align_up(size_t value)
{
    return (value + PAGE - 1) / PAGE * PAGE;
}

// The core lies beside this library.
static void default_path(char *ret, size_t size)
{
    Dl_info info;
    const char *slash = dladdr((void *)mv_hrt_create, &info) ? strrchr(info.dli_fname, '/') : NULL;
    int length = slash ? (int)(slash - info.dli_fname) + 1 : 0;
    snprintf(ret, size, "%.*smultiverse-core", length, slash ? info.dli_fname : "");
}

// A part of the file that has been checked to lie within it; NULL if it does not.
static const void *part(const char *file, size_t size, uint64_t offset, uint64_t length)
{
    return offset <= size && length <= size - offset ? file + offset : NULL;
}

// Copy the segments to where they may lie, and protect them. Returns -ENOEXEC if the file is no
// core.
static int map_image(const char *file, size_t size, struct mv_adoption *adoption, char **entry)
{
    const Elf64_Ehdr *ehdr = part(file, size, 0, sizeof(*ehdr));
    if (!ehdr || memcmp(ehdr->e_ident, ELFMAG, SELFMAG) != 0 || ehdr->e_type != ET_DYN)
        return -ENOEXEC;
    const Elf64_Phdr *phdr = part(file, size, ehdr->e_phoff, ehdr->e_phnum * sizeof(*phdr));
    size_t image = 0;
    for (unsigned i = 0; phdr && i < ehdr->e_phnum; i++) {
        const Elf64_Phdr *p = &phdr[i];
        if (p->p_type != PT_LOAD)
            continue;
        if (p->p_vaddr > LIMIT || p->p_memsz > LIMIT || p->p_filesz > p->p_memsz ||
            !part(file, size, p->p_offset, p->p_filesz))
            return -ENOEXEC;
        size_t end = align_up(p->p_vaddr + p->p_memsz);
        image = end > image ? end : image;
    }
    if (image < PAGE || ehdr->e_entry > image - PAGE)
        return -ENOEXEC;
    char *at = mmap(NULL, image, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return -ENOMEM;
    adoption->image = (uint64_t)at;
    adoption->image_size = image;
    for (unsigned i = 0; i < ehdr->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD)
            memcpy(at + phdr[i].p_vaddr, file + phdr[i].p_offset, phdr[i].p_filesz);
    for (unsigned i = 0; i < ehdr->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD && !(phdr[i].p_flags & PF_W)) {
            size_t start = phdr[i].p_vaddr / PAGE * PAGE;
            size_t end = align_up(phdr[i].p_vaddr + phdr[i].p_memsz);
            if (mprotect(at + start, end - start,
                         PROT_READ | (phdr[i].p_flags & PF_X ? PROT_EXEC : 0)))
                return -ENOMEM;
        }
    *entry = at + ehdr->e_entry;
    const uint64_t mark[] = {MV_CORE_MAGIC, MV_FAT_VERSION};
    return memcmp(*entry + MV_CORE_MARK, mark, sizeof(mark)) ? -ENOEXEC : 0;
}

// What to do when the core has refused.
static const char *advice(int err)
{
    switch (err) {
    case -ENOMEM:
        return "free memory or raise the limit (ulimit -v)";
    case -EINVAL:
        return "check the option config, and see multiverse doctor";
    default:
        return "see multiverse doctor";
    }
}

// Map the core and call it.
static int attach(struct mv_hrt *hrt, const char *path, const char *file, size_t size,
                  const char *config)
{
    static char *nothing[] = {NULL};
    const struct mv_attach_request request = {
        .config = config,
        .fault_handler = (uint64_t)worker_fault,
        .restorer = (uint64_t)worker_restorer,
    };
    struct mv_adoption adoption = {
        .version = MV_FAT_VERSION,
        .argv = nothing,
        .envp = nothing,
        .attach = &request,
        .answer = &hrt->core,
    };
    char *entry;
    int err = map_image(file, size, &adoption, &entry);
    if (err) {
        fail(err, "HRT: %s: %s; library and core are of different versions, install again", path,
             strerror(-err));
    } else {
        err = ((int (*)(struct mv_adoption *))entry)(&adoption);
        if (err)
            fail(err, "HRT: %s; %s", adoption.what, advice(err));
    }
    if (adoption.image_size) // otherwise the core has moved to its region
        munmap((void *)adoption.image, adoption.image_size);
    if (err && adoption.region_size)
        munmap((void *)adoption.region, adoption.region_size);
    hrt->region = (void *)adoption.region;
    hrt->region_size = adoption.region_size;
    hrt->ring = err ? -1 : (int)hrt->core.ring;
    return err;
}

int load_core(struct mv_hrt *hrt, const char *path, const char *config)
{
    char beside[4096];
    hrt->core = (struct mv_attach_answer){0};
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
    size_t size = (size_t)st.st_size;
    const char *file = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (file == MAP_FAILED)
        return fail(-ENOEXEC, "HRT: %s: cannot be read; install multiverse again", path);
    int err = attach(hrt, path, file, size, config);
    munmap((void *)file, size);
    return err;
}

void unload_core(struct mv_hrt *hrt)
{
    // What Linux may still call has to stay.
    if (hrt->core.detach() == 0)
        munmap(hrt->region, hrt->region_size);
}
