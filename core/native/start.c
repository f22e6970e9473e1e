// From a native program's first instruction to its main(), and back.

#include <asm/errno.h>

#include "base/format.h"
#include "base/string.h"
#include "include/aerokernel/memory.h"
#include "include/aerokernel/native.h"
#include "native/native.h"

int main(int argc, char **argv);
int ak_attach_cpu(void);
void ak_native_start(struct mv_boot *boot);
void ak_native_start_cpu(struct mv_boot *boot, unsigned cpu);

typedef void constructor(void);
extern constructor *const ak_constructors[], *const ak_constructors_end[]; // native.ld

extern const char ak_native_entry[], ak_native_entry_cpu[], ak_no_system_call[]; // head.S
extern const char ak_vectors_ring0[], ak_vectors_ring3[];                        // vectors.S

// The first bytes of the program, by native.ld.
__attribute__((section(".native.head"), used)) const struct mv_native ak_native_head = {
    .magic = MV_NATIVE_MAGIC,
    .version = MV_NATIVE_VERSION,
    .layout = MV_NATIVE_LAYOUT,
    .entry = (uint64_t)ak_native_entry,
    .entry_cpu = (uint64_t)ak_native_entry_cpu,
    .vectors_ring0 = (uint64_t)ak_vectors_ring0,
    .vectors_ring3 = (uint64_t)ak_vectors_ring3,
    .syscall = (uint64_t)ak_no_system_call,
};

_Noreturn static void fail(const char *why)
{
    char text[64];
    ak_native_end(MV_STATUS_FAULT, text, mv_format(text, sizeof(text), "what=start why=%s", why));
}

int ak_attach(void)
{
    return 0; // every virtual CPU has been attached before main()
}

void ak_exit(int status)
{
    ak_native_end(status & 0xff, NULL, 0);
}

static unsigned digit(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c |= 'a' - 'A';
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
}

// Take the words of the command line apart, in place. argv: NULL to count them.
static int split(char *line, char **argv)
{
    int count = 0;
    for (char *at = line; *at;) {
        while (*at == ' ')
            at++;
        if (!*at)
            break;
        if (argv)
            argv[count] = at;
        count++;
        while (*at && *at != ' ')
            at++;
        if (argv && *at)
            *at++ = 0;
    }
    return count;
}

static void decode(char *word)
{
    char *to = word;
    for (const char *from = word; *from; from++, to++) {
        *to = *from;
        if (*from == '%' && digit(from[1]) < 16 && digit(from[2]) < 16) {
            *to = (char)(digit(from[1]) << 4 | digit(from[2]));
            from += 2;
        }
    }
    *to = 0;
}

void ak_native_start(struct mv_boot *boot)
{
    static char *no_words[] = {"program", NULL};
    ak_boot = boot;
    __atomic_store_n(&ak_machine, &boot->machine, __ATOMIC_RELEASE);
    if (ak_attach_cpu())
        fail("no_memory");
    while (ak_cpu_count() < boot->cpus)
        __builtin_ia32_pause();
    char *line = (char *)boot->command_line, **argv = no_words;
    int argc = split(line, NULL);
    if (argc) {
        argv = ak_zalloc(((size_t)argc + 1) * sizeof(*argv));
        if (!argv)
            fail("no_memory");
        split(line, argv);
        for (int i = 0; i < argc; i++)
            decode(argv[i]);
    }
    for (constructor *const *fn = ak_constructors; fn < ak_constructors_end; fn++)
        (*fn)();
    ak_exit(main(argc ? argc : 1, argv));
}

// Any other virtual CPU: it runs the threads and calls that it is given.
void ak_native_start_cpu(struct mv_boot *boot, unsigned cpu)
{
    (void)cpu;
    // The first virtual CPU owns these until it has attached itself.
    while (__atomic_load_n(&ak_machine, __ATOMIC_ACQUIRE) != &boot->machine || !ak_cpu_count())
        __builtin_ia32_pause();
    if (ak_attach_cpu())
        fail("no_memory");
    for (;;)
        ak_cpu_serve();
}
