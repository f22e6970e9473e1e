// What a fat binary does before its program's first instruction: look at MULTIVERSE and at the
// machine, map the core that the file carries, and call it. The call returns in an HRT, or
// natively.
//
// It runs in a foreign process, before its C library is ready and, in a packed file, before
// anything is relocated: no library, no thread-local storage, no pointer that has to be relocated.

#include <asm/errno.h>
#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "abi/fat.h"
#include "abi/frame.h"
#include "base/sys.h"
#include "fat-core.h"

enum { EXIT_FAILURE = 125, SEGMENTS_MAX = 16, LINE_BYTES = 512 };
enum mode { MODE_AUTO, MODE_OFF, MODE_REQUIRE, MODE_UNKNOWN };

extern const struct mv_fat_note mv_fat_note __attribute__((visibility("hidden")));
extern const char mv_fat_core[] __attribute__((visibility("hidden")));

// What --override adds: multiverse cc by one more object, multiverse pack behind all this.
#if MV_KIND == MV_FAT_LINKED
#define WEAK __attribute__((weak, visibility("hidden")))
extern const char mv_fat_modules[] WEAK, mv_fat_modules_end[] WEAK;
extern const struct mv_fat_link mv_fat_links[] WEAK, mv_fat_links_end[] WEAK;

static void add_modules(struct mv_adoption *adoption)
{
    adoption->modules = mv_fat_modules;
    adoption->modules_size = (uint64_t)(mv_fat_modules_end - mv_fat_modules);
    adoption->links = mv_fat_links;
    adoption->links_count = (uint64_t)(mv_fat_links_end - mv_fat_links);
}
#else
extern const struct mv_fat_packed mv_fat_code __attribute__((visibility("hidden")));

static void add_modules(struct mv_adoption *adoption)
{
    adoption->modules = (const char *)&mv_fat_code + mv_fat_code.modules;
    adoption->modules_size = mv_fat_code.modules_size;
    adoption->links = NULL;
    adoption->links_count = 0;
}
#endif

static bool equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static const char *variable(char **envp, const char *name)
{
    for (; *envp; envp++) {
        const char *at = *envp, *want = name;
        while (*want && *at == *want)
            at++, want++;
        if (!*want && *at == '=')
            return at + 1;
    }
    return NULL;
}

static enum mode mode_of(const char *value)
{
    if (!value || !*value || equal(value, "auto"))
        return MODE_AUTO;
    if (equal(value, "off"))
        return MODE_OFF;
    return equal(value, "require") ? MODE_REQUIRE : MODE_UNKNOWN;
}

static uint64_t auxiliary(char **envp, uint64_t type)
{
    while (*envp)
        envp++;
    for (const uint64_t *a = (const uint64_t *)(envp + 1); a[0] != AT_NULL; a += 2)
        if (a[0] == type)
            return a[1];
    return 0;
}

// ---- Messages ----------------------------------------------------------------------------------

struct line {
    unsigned used;
    char text[LINE_BYTES];
};

static void put(struct line *line, const char *text)
{
    while (*text && line->used < LINE_BYTES - 1)
        line->text[line->used++] = *text++;
}

// One line: what failed, why, what to do. error: a negative errno or 0.
static void tell(const char *program, const char *what, int error, const char *advice)
{
    struct line line;
    char digits[12], *digit = digits + sizeof(digits) - 1;
    line.used = 0;
    put(&line, "multiverse: ");
    put(&line, program ? program : "a fat binary");
    put(&line, ": ");
    put(&line, what);
    if (error) {
        *digit = 0;
        for (unsigned n = (unsigned)-error; n; n /= 10)
            *--digit = (char)('0' + n % 10);
        put(&line, error == -ENOENT   ? ": No such file or directory"
                   : error == -EACCES ? ": Permission denied"
                   : error == -ENOMEM ? ": Cannot allocate memory"
                                      : ": error ");
        if (error != -ENOENT && error != -EACCES && error != -ENOMEM)
            put(&line, digit);
    }
    put(&line, "; ");
    put(&line, advice);
    line.text[line.used++] = '\n';
    sys3(__NR_write, 2, line.text, line.used);
}

// ---- The core ----------------------------------------------------------------------------------

// CRC-32 as zlib computes it, four bytes a turn.
static uint32_t crc32(const char *bytes, uint64_t size)
{
    enum { POLYNOMIAL = 0xedb88320, SLICES = 4 };
    uint32_t table[SLICES][256], crc = ~0U;
    for (unsigned i = 0; i < 256; i++) {
        uint32_t value = i;
        for (unsigned bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? POLYNOMIAL : 0);
        table[0][i] = value;
    }
    for (unsigned slice = 1; slice < SLICES; slice++)
        for (unsigned i = 0; i < 256; i++) {
            uint32_t before = table[slice - 1][i];
            table[slice][i] = before >> 8 ^ table[0][before & 255];
        }
    const uint32_t *words = (const uint32_t *)bytes;
    for (uint64_t i = 0; i < size / sizeof(*words); i++) {
        crc ^= words[i];
        crc = table[3][crc & 255] ^ table[2][crc >> 8 & 255] ^ table[1][crc >> 16 & 255] ^
              table[0][crc >> 24];
    }
    for (uint64_t i = size / sizeof(*words) * sizeof(*words); i < size; i++)
        crc = crc >> 8 ^ table[0][(crc ^ (unsigned char)bytes[i]) & 255];
    return ~crc;
}

static void copy(uint64_t to, const char *from, uint64_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

// Map the core from its bytes. Its checksum is right, so its headers are as they were built.
static int map_core(struct mv_adoption *adoption, uint64_t *entry)
{
    const char *bytes = mv_fat_core;
    const struct elf64_hdr *header = (const struct elf64_hdr *)bytes;
    const struct elf64_phdr *segment = (const struct elf64_phdr *)(bytes + header->e_phoff);
    uint64_t size = 0;
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (segment[i].p_type == PT_LOAD)
            size = ALIGN_UP(segment[i].p_vaddr + segment[i].p_memsz, PAGE_SIZE);
    uint64_t at = sys_mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(at))
        return (int)at;
    adoption->image = at;
    adoption->image_size = size;
    *entry = at + header->e_entry;
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (segment[i].p_type == PT_LOAD)
            copy(at + segment[i].p_vaddr, bytes + segment[i].p_offset, segment[i].p_filesz);
    for (unsigned i = 0; i < header->e_phnum; i++) {
        uint64_t start = ALIGN_DOWN(segment[i].p_vaddr, PAGE_SIZE);
        uint64_t end = ALIGN_UP(segment[i].p_vaddr + segment[i].p_memsz, PAGE_SIZE);
        if (segment[i].p_type != PT_LOAD || segment[i].p_flags & PF_W)
            continue;
        long err = sys3(__NR_mprotect, at + start, end - start,
                        PROT_READ | (segment[i].p_flags & PF_X ? PROT_EXEC : 0));
        if (err)
            return (int)err;
    }
    return 0;
}

// Call the core. Returns 0 in the HRT, or natively a negative errno with adoption->what.
static int become_hrt(struct mv_adoption *adoption)
{
    uint64_t entry;
    int err = map_core(adoption, &entry);
    if (!err)
        err = ((int (*)(struct mv_adoption *))entry)(adoption);
    if (!err)
        return 0;
    if (adoption->image_size)
        sys2(__NR_munmap, adoption->image, adoption->image_size);
    if (adoption->region_size)
        sys2(__NR_munmap, adoption->region, adoption->region_size);
    return err;
}

// Why the core that the file carries cannot be used, or NULL.
static const char *unusable(void)
{
    if (mv_fat_note.version != MV_FAT_VERSION)
        return "the core that the file carries is of another version";
    if (mv_fat_note.core_size != MV_CORE_SIZE || mv_fat_note.core_crc32 != MV_CORE_CRC32 ||
        crc32(mv_fat_core, MV_CORE_SIZE) != MV_CORE_CRC32)
        return "the core that the file carries is damaged";
    return NULL;
}

static bool is_hosted(void)
{
    return sys1(MV_NR_AEROKERNEL, MV_AEROKERNEL_HOSTED) != -ENOSYS;
}

__attribute__((visibility("hidden"))) void mv_fat_start(int argc, char **argv, char **envp);

void mv_fat_start(int argc, char **argv, char **envp)
{
    const char *program = argc > 0 ? argv[0] : NULL;
    enum mode mode = mode_of(variable(envp, "MULTIVERSE"));
    // A set-user-ID program listens to nobody's environment, and has rights that are not for us.
    if (auxiliary(envp, AT_SECURE) || mode == MODE_OFF)
        return;
    if (mode == MODE_UNKNOWN) {
        tell(program, "MULTIVERSE is neither auto, off nor require", 0, "set it right or unset it");
        sys_exit_group(EXIT_FAILURE);
    }
    // Before the other question: where there is no device, a system call that Linux does not know
    // could be one call more than a sandbox forgives.
    long fd = sys3(__NR_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        if (mode == MODE_AUTO || is_hosted())
            return;
        tell(program, "/dev/kvm", (int)fd, "see multiverse doctor");
        sys_exit_group(EXIT_FAILURE);
    }
    sys1(__NR_close, fd);
    if (is_hosted())
        return;
    const char *why = unusable();
    if (why) {
        bool required = mode == MODE_REQUIRE;
        tell(program, why, 0,
             required ? "build the file again" : "build the file again; running natively");
        if (required)
            sys_exit_group(EXIT_FAILURE);
        return;
    }
    static const char mapping[] = "mapping the core";
    struct mv_adoption adoption;
    adoption.version = MV_FAT_VERSION;
    adoption.argc = (uint32_t)argc;
    adoption.argv = argv;
    adoption.envp = envp;
    adoption.image_size = adoption.region_size = 0;
    adoption.attach = NULL;
    adoption.answer = NULL;
    add_modules(&adoption);
    copy((uint64_t)adoption.what, mapping, sizeof(mapping)); // unless the core says otherwise
    if (become_hrt(&adoption) && mode == MODE_REQUIRE) {
        tell(program, adoption.what, 0, "see multiverse doctor");
        sys_exit_group(EXIT_FAILURE);
    }
}
