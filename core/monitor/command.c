// The `kernel` command's words.

#include "base/print.h"
#include "base/string.h"
#include "monitor/monitor.h"

enum { MEMORY_MIN = 8, MEMORY_MAX = 1 << 20 }; // MiB

static unsigned number(const char *key, const char *text, size_t len)
{
    uint64_t value = 0;
    bool valid = len > 0 && len < 8;
    for (size_t i = 0; valid && i < len; i++) {
        valid = text[i] >= '0' && text[i] <= '9';
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (!valid)
        mv_die(MV_EXIT_FAILURE, "core: configuration key %s: not a number", key);
    return (unsigned)value;
}

static void parse(const char *text, struct mon_config *ret)
{
    *ret = (struct mon_config){.memory_mib = 256, .cpus = 1, .ring = -1, .report_fd = -1};
    while (*text) {
        size_t len = 0, split = 0;
        while (text[len] && text[len] != ',')
            len++;
        while (split < len && text[split] != '=')
            split++;
        char key[32] = {0};
        memcpy(key, text, MIN(split, sizeof(key) - 1));
        const char *value = text + split + (split < len);
        size_t value_len = (size_t)(text + len - value);
        if (strcmp(key, "memory") == 0)
            ret->memory_mib = number(key, value, value_len);
        else if (strcmp(key, "cpus") == 0)
            ret->cpus = number(key, value, value_len);
        else if (strcmp(key, "physbits") == 0)
            ret->phys_bits = number(key, value, value_len);
        else if (strcmp(key, "report") == 0)
            ret->report_fd = (int)number(key, value, value_len);
        else if (strcmp(key, "ring") == 0 && value_len == 4 && strncmp(value, "auto", 4) == 0)
            ret->ring = -1;
        else if (strcmp(key, "ring") == 0)
            ret->ring = (int)number(key, value, value_len);
        else if (len)
            mv_die(MV_EXIT_FAILURE,
                   "core: unknown configuration key %s; core and command line "
                   "are of different versions, install again",
                   key);
        text += len + (text[len] == ',');
    }
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
