#include <asm/auxvec.h>
#include <asm/fcntl.h>
#include <linux/auxvec.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/personality.h>
#include <linux/prctl.h>

#include "base/print.h"
#include "base/region.h"
#include "base/string.h"
#include "base/sys.h"
#include "main/main.h"
#include "ros/ros.h"

enum { SCRIPT_LINE = 256, SCRIPTS_MAX = 5, AUXV_MAX = 64 };

// Where Linux puts position-independent programs, and by how much it moves them and the heap.
#define PIE_BASE 0x555555554000ULL
#define PIE_RANDOM_PAGES (1ULL << 28)
#define HEAP_RANDOM_PAGES (1ULL << 13)

_Noreturn static void die_of_open(const char *path, int err, const char *why)
{
    int status = MV_EXIT_NOT_EXECUTABLE;
    const char *advice = "check the file and its permissions";
    if (err == -ENOENT || err == -ENOTDIR)
        status = MV_EXIT_NOT_FOUND, advice = "check the name";
    else if (err == -EMFILE || err == -ENFILE || err == -ENOMEM)
        status = MV_EXIT_FAILURE, advice = "raise the limits (ulimit -a)";
    mv_die(status, "run: %s: %s; %s", path, why ? why : mv_strerror(err), advice);
}

// If the file starts with #!, put interpreter and argument in front of argv. Returns false if it
// is no script.
static bool resolve_script(struct mv_program *program)
{
    char line[SCRIPT_LINE + 1] = {0};
    long fd = sys3(__NR_openat, AT_FDCWD, program->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die_of_open(program->file, (int)fd, NULL);
    long n = sys4(__NR_pread64, fd, line, SCRIPT_LINE, 0);
    sys1(__NR_close, fd);
    if (n < 2 || line[0] != '#' || line[1] != '!')
        return false;
    if (sys3(__NR_faccessat, AT_FDCWD, program->file, 1 /* X_OK */))
        die_of_open(program->file, -EACCES, NULL);
    char *p = line + 2, *end = line;
    while (*end && *end != '\n')
        end++;
    *end = 0;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    while (*p == ' ' || *p == '\t')
        p++;
    char *interp = p;
    while (*p && *p != ' ' && *p != '\t')
        p++;
    char *argument = p;
    while (*argument == ' ' || *argument == '\t')
        argument++;
    *p = 0;
    if (!*interp)
        die_of_open(program->file, -ENOEXEC, "the #! line names no interpreter");

    unsigned argc = 0;
    while (program->argv[argc])
        argc++;
    char *text = mv_region_alloc(sizeof(line));
    char **argv = mv_region_alloc((argc + 4) * sizeof(*argv));
    if (!text || !argv)
        mv_die(MV_EXIT_FAILURE, "run: arguments of %s: no memory; free some", program->file);
    memcpy(text, line, sizeof(line));
    unsigned out = 0;
    argv[out++] = text + (interp - line);
    if (*argument)
        argv[out++] = text + (argument - line);
    argv[out++] = (char *)program->file;
    for (unsigned i = 1; i < argc; i++)
        argv[out++] = program->argv[i];
    program->argv = argv;
    program->file = argv[0];
    return true;
}

int mv_program_open(const char *path, char **argv, struct mv_program *ret, const char **why)
{
    static struct ldr_image image, interp;
    *ret = (struct mv_program){.path = path, .file = path, .argv = argv, .image = &image};
    for (unsigned depth = 0; resolve_script(ret); depth++)
        if (depth == SCRIPTS_MAX)
            die_of_open(path, -ELOOP, NULL);
    int err = ldr_open(ret->file, &image, why);
    if (err == -ENOEXEC)
        return err;
    if (err)
        die_of_open(ret->file, err, *why);
    if (!image.interp[0])
        return 0;
    err = ldr_open(image.interp, &interp, why);
    if (err == -ENOENT)
        mv_die(MV_EXIT_NOT_EXECUTABLE, "run: %s: its interpreter %s is not there; install it",
               ret->file, image.interp);
    if (err)
        die_of_open(image.interp, err, *why);
    ret->interp = &interp;
    return 0;
}

static uint64_t random_pages(uint64_t limit)
{
    uint64_t value = 0;
    if (sys1(__NR_personality, 0xffffffff) & ADDR_NO_RANDOMIZE)
        return 0;
    sys3(__NR_getrandom, &value, sizeof(value), 1 /* GRND_NONBLOCK */);
    return value % limit * PAGE_SIZE;
}

// Let override modules have what they want of an image, and close its file.
static void take_over(const struct ldr_image *image)
{
    for (unsigned i = 0; i < image->segments; i++) {
        const struct ldr_segment *s = &image->segment[i];
        uint64_t start = ALIGN_DOWN(s->start, PAGE_SIZE), end = s->start + s->file_size;
        if (s->prot & PROT_EXEC)
            ros_override_mapped(start + image->bias, end - start, image->fd,
                                ALIGN_DOWN(s->offset, PAGE_SIZE));
    }
    sys1(__NR_close, image->fd);
}

void mv_program_map(struct mv_program *program)
{
    struct ldr_image *image = program->image;
    int err = -EEXIST;
    // Something may lie there already; then another place does as well. Without an interpreter the
    // image goes where mappings go, as under Linux.
    for (int i = 0; i < 8 && err == -EEXIST; i++)
        err = ldr_map(image, program->interp ? PIE_BASE + random_pages(PIE_RANDOM_PAGES) : 0);
    if (!err && program->interp)
        err = ldr_map(program->interp, 0);
    if (err)
        mv_die(err == -ENOMEM ? MV_EXIT_FAILURE : MV_EXIT_NOT_EXECUTABLE,
               "run: mapping %s: %s; check the file and the memory limits", program->file,
               mv_strerror(err));
    take_over(image);
    if (program->interp)
        take_over(program->interp);
}

static uint64_t push(uint64_t *sp, const void *data, uint64_t size)
{
    *sp -= size;
    memcpy((void *)*sp, data, size);
    return *sp;
}

// Fill the auxiliary vector for the new program: Linux's own, with what the loader decides.
static unsigned make_auxv(const struct mv_arguments *args, const struct mv_program *program,
                          uint64_t (*auxv)[2])
{
    const struct ldr_image *image = program->image;
    unsigned n = 0;
    for (const uint64_t *a = args->auxv; a[0] != AT_NULL && n < AUXV_MAX - 1; a += 2) {
        uint64_t value = a[1];
        switch (a[0]) {
        case AT_PHDR:
            value = image->phdr ? image->phdr + image->bias : 0;
            break;
        case AT_PHNUM:
            value = image->phnum;
            break;
        case AT_BASE:
            value = program->interp ? program->interp->bias + program->interp->low : 0;
            break;
        case AT_ENTRY:
            value = image->entry + image->bias;
            break;
        case AT_EXECFN:
            value = (uint64_t)program->path;
            break;
        default:
            break;
        }
        auxv[n][0] = a[0];
        auxv[n++][1] = value;
    }
    auxv[n][0] = AT_NULL;
    auxv[n++][1] = 0;
    return n;
}

uint64_t mv_build_stack(const struct mv_arguments *args, const struct mv_program *program)
{
    uint64_t sp = (uint64_t)&args->argv[-1]; // below what Linux left there
    uint64_t auxv[AUXV_MAX][2];
    unsigned argc = 0, envc = 0, words = make_auxv(args, program, auxv) * 2;
    while (program->argv[argc])
        argc++;
    while (args->envp[envc])
        envc++;
    // A script's words live in the core's region, which the program does not see.
    for (unsigned i = 0; i < argc; i++)
        if (mv_region_touches((uint64_t)program->argv[i], 1))
            program->argv[i] = (char *)push(&sp, program->argv[i], strlen(program->argv[i]) + 1);
    words += 1 + argc + 1 + envc + 1;
    uint64_t *at = (uint64_t *)ALIGN_DOWN(sp - words * 8, 16);
    uint64_t *to = at;
    *to++ = argc;
    for (unsigned i = 0; i <= argc; i++)
        *to++ = (uint64_t)program->argv[i];
    for (unsigned i = 0; i <= envc; i++)
        *to++ = (uint64_t)args->envp[i];
    memcpy(to, auxv, sizeof(auxv[0]) * ((words - argc - envc - 3) / 2));
    return (uint64_t)at;
}

// Tell Linux: the process's name, its heap, where its arguments are, and which file it executes.
void mv_program_announce(const struct mv_arguments *args, const struct mv_program *program,
                         uint64_t stack)
{
    const struct ldr_image *image = program->image;
    const char *slash = strrchr(program->path, '/');
    sys2(__NR_prctl, PR_SET_NAME, slash ? slash + 1 : program->path);

    uint64_t *vector = (uint64_t *)stack;
    uint64_t argc = vector[0];
    char *first = (char *)vector[1], *last = (char *)vector[argc];
    char **env = (char **)&vector[argc + 2];
    uint64_t envc = 0;
    while (env[envc])
        envc++;
    bool among_mappings = !image->fixed && !program->interp; // then the heap has a place of its own
    uint64_t heap = among_mappings ? PIE_BASE : image->high + image->bias;
    heap += random_pages(HEAP_RANDOM_PAGES) + PAGE_SIZE;
    uint64_t low = image->low + image->bias, high = image->high + image->bias;
    uint64_t *aux = (uint64_t *)&env[envc + 1];
    uint64_t words = 0;
    while (aux[words] != AT_NULL)
        words += 2;
    struct prctl_mm_map map = {
        .start_code = low,
        .end_code = high,
        .start_data = among_mappings ? heap - PAGE_SIZE : low,
        .end_data = among_mappings ? heap - PAGE_SIZE : high,
        .start_brk = heap,
        .brk = heap,
        .start_stack = stack,
        .arg_start = (uint64_t)(argc ? MIN(first, last) : args->argv[0]),
        .arg_end =
            (uint64_t)(argc ? MAX(first + strlen(first), last + strlen(last)) + 1 : args->argv[0]),
        .env_start = (uint64_t)(envc ? env[0] : args->argv[0]),
        .env_end = (uint64_t)(envc ? env[envc - 1] + strlen(env[envc - 1]) + 1 : args->argv[0]),
        .auxv = (__u64 *)aux,
        .auxv_size = (uint32_t)((words + 2) * 8),
    };
    long fd = sys3(__NR_openat, AT_FDCWD, program->file, O_RDONLY | O_CLOEXEC);
    map.exe_fd = (uint32_t)fd;
    // Changing the executable needs a capability; without it the core answers for the link.
    ros.exe_by_kernel =
        fd >= 0 && sys5(__NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) == 0;
    map.exe_fd = (uint32_t)-1;
    if (!ros.exe_by_kernel)
        sys5(__NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
    char link[32];
    mv_format(link, sizeof(link), "/proc/self/fd/%ld", fd);
    long n = sys3(__NR_readlink, link, ros.exe_path, sizeof(ros.exe_path) - 1);
    ros.exe_path[MAX(n, 0L)] = 0;
    sys1(__NR_close, fd);
}
