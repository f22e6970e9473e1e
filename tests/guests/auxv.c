// Proves that the program finds at its start what the kernel hands a native one: arguments,
// environment and auxiliary vector, laid out on the stack as the ABI says.
#include "guest.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern char **environ;
extern char _start[], __ehdr_start[];
static char data_anchor;

static const char *name_of(unsigned long type)
{
    static const struct {
        unsigned long type;
        const char *name;
    } names[] = {
        {AT_SYSINFO_EHDR, "SYSINFO_EHDR"},
        {AT_HWCAP, "HWCAP"},
        {AT_PAGESZ, "PAGESZ"},
        {AT_CLKTCK, "CLKTCK"},
        {AT_PHDR, "PHDR"},
        {AT_PHENT, "PHENT"},
        {AT_PHNUM, "PHNUM"},
        {AT_BASE, "BASE"},
        {AT_FLAGS, "FLAGS"},
        {AT_ENTRY, "ENTRY"},
        {AT_UID, "UID"},
        {AT_EUID, "EUID"},
        {AT_GID, "GID"},
        {AT_EGID, "EGID"},
        {AT_SECURE, "SECURE"},
        {AT_RANDOM, "RANDOM"},
        {AT_HWCAP2, "HWCAP2"},
        {AT_EXECFN, "EXECFN"},
        {AT_PLATFORM, "PLATFORM"},
        {AT_MINSIGSTKSZ, "MINSIGSTKSZ"},
    };
    for (unsigned i = 0; i < COUNT(names); i++)
        if (names[i].type == type)
            return names[i].name;
    return NULL;
}

int main(int argc, char **argv)
{
    say("argc", "%d", argc);
    for (int i = 0; i < argc; i++)
        say("argv", "%s", argv[i]);
    say("argc below argv", "%s", yes(((long *)argv)[-1] == argc));
    say("start aligned", "%s", yes((uintptr_t) & ((long *)argv)[-1] % 16 == 0));
    say("argv ends with", "%p", (void *)argv[argc]);
    say("environment behind it", "%s", yes(environ == argv + argc + 1));
    char **end = environ;
    for (; *end; end++)
        say("env", "%s", *end);
    for (int i = 0; i + 1 < argc; i++)
        if (argv[i + 1] != argv[i] + strlen(argv[i]) + 1)
            say("strings", "not one after the other");
    if (*environ && argc)
        say("environment strings behind the arguments", "%s",
            yes(*environ == argv[argc - 1] + strlen(argv[argc - 1]) + 1));

    bool bases = false;
    for (ElfW(auxv_t) *aux = (ElfW(auxv_t) *)(end + 1); aux->a_type != AT_NULL; aux++) {
        const char *name = name_of(aux->a_type), *text = (char *)aux->a_un.a_val;
        uint64_t value = aux->a_un.a_val;
        const ElfW(Ehdr) *own = (void *)__ehdr_start;
        switch (aux->a_type) {
        case AT_SYSINFO_EHDR:
            say(name, "%s", !memcmp(text, ELFMAG, SELFMAG) ? "an ELF file" : "rubbish");
            break;
        case AT_PHDR:
            say(name, "%s", yes(value == (uint64_t)own + own->e_phoff));
            break;
        case AT_PHNUM:
            say(name, "%s", yes(value == own->e_phnum));
            break;
        case AT_ENTRY:
            say(name, "%s", yes(value == (uint64_t)_start));
            break;
        case AT_BASE:
            bases = value != 0;
            say(name, "%s", !value ? "none" : memcmp(text, ELFMAG, SELFMAG) ? "rubbish" : "ELF");
            break;
        case AT_RANDOM: {
            bool zero = true;
            for (int i = 0; i < 16; i++)
                zero &= text[i] == 0;
            say(name, "%s", zero ? "all zero" : "16 bytes");
            break;
        }
        case AT_EXECFN:
        case AT_PLATFORM:
            say(name, "%s", text);
            break;
        default:
            if (name)
                say(name, "%lx", value);
            // Entries of newer kernels (rseq and others) are compared by number and value.
            else
                say("entry", "%lu: %lx", (unsigned long)aux->a_type, value);
        }
    }
    say("interpreted", "%s", yes(bases));
    say("AT_EXECFN by getauxval", "%s", (char *)getauxval(AT_EXECFN));
    say("stack above the heap", "%s", yes((uintptr_t)argv > (uintptr_t)sbrk(0)));
    say("heap above the data", "%s", yes((uintptr_t)sbrk(0) > (uintptr_t)&data_anchor));
    say("errno at start", "%d", errno);
    return 0;
}
