// The `kernel` command's words.

#include "base/keys.h"
#include "base/print.h"
#include "monitor/monitor.h"

enum { MEMORY_MIN = 8, MEMORY_MAX = 1 << 20 }; // MiB

static void parse(const char *text, struct mon_config *ret)
{
#define MEMBER(name) offsetof(struct mon_config, name)
    static const struct mv_key keys[] = {
        {"memory", mv_key_number, MEMBER(memory_mib)},  {"cpus", mv_key_number, MEMBER(cpus)},
        {"physbits", mv_key_number, MEMBER(phys_bits)}, {"ring", mv_key_auto, MEMBER(ring)},
        {"report", mv_key_number, MEMBER(report_fd)},
    };
    *ret = (struct mon_config){.memory_mib = 256, .cpus = 1, .ring = -1, .report_fd = -1};
    char wrong[MV_KEYS_WRONG];
    if (!mv_keys_parse(text, keys, ARRAY_SIZE(keys), ret, wrong))
        mv_die(MV_EXIT_FAILURE,
               "core: %s; core and command line are of different versions, install again", wrong);
    if (ret->memory_mib < MEMORY_MIN || ret->memory_mib > MEMORY_MAX)
        mv_die(MV_EXIT_FAILURE, "core: configuration key memory: not from %u to %u MiB", MEMORY_MIN,
               MEMORY_MAX);
    if (ret->cpus < 1 || ret->cpus > MV_NATIVE_CPUS_MAX)
        mv_die(MV_EXIT_FAILURE, "core: configuration key cpus: not from 1 to %u",
               MV_NATIVE_CPUS_MAX);
}

void mon_command(char **args)
{
    parse(args[0], &mon.config);
    mon_make(args[1], args + 2);
    mon_run();
}
