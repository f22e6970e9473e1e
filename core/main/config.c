#include "base/print.h"
#include "base/string.h"
#include "main/main.h"

// The number at *text up to a comma or the end; dies if there is none.
static unsigned number(const char *key, const char *text, size_t len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || value > 1000000)
            len = 0;
        else
            value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (!len)
        mv_die(MV_EXIT_FAILURE, "core: configuration key %s: not a number", key);
    return (unsigned)value;
}

void mv_config_parse(const char *text, struct mv_config *ret)
{
    *ret = (struct mv_config){.ring = -1, .stats_fd = -1, .trace_fd = -1};
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
        bool is_auto = value_len == 4 && strncmp(value, "auto", 4) == 0;
        if (strcmp(key, "hvm") == 0)
            ret->off = !is_auto;
        else if (strcmp(key, "require") == 0)
            ret->require = number(key, value, value_len);
        else if (strcmp(key, "quiet") == 0)
            ret->quiet = number(key, value, value_len);
        else if (strcmp(key, "follow") == 0)
            ret->follow = number(key, value, value_len);
        else if (strcmp(key, "loadonly") == 0)
            ret->loadonly = number(key, value, value_len);
        else if (strcmp(key, "physbits") == 0)
            ret->phys_bits = number(key, value, value_len);
        else if (strcmp(key, "ring") == 0)
            ret->ring = is_auto ? -1 : (int)number(key, value, value_len);
        else if (strcmp(key, "stats") == 0)
            ret->stats_fd = (int)number(key, value, value_len);
        else if (strcmp(key, "trace") == 0)
            ret->trace_fd = (int)number(key, value, value_len);
        else if (len)
            mv_die(MV_EXIT_FAILURE,
                   "core: unknown configuration key %s; core and command line "
                   "are of different versions, install again",
                   key);
        text += len + (text[len] == ',');
    }
    if (ret->phys_bits && (ret->phys_bits < 36 || ret->phys_bits > 52))
        mv_die(MV_EXIT_FAILURE, "core: configuration key physbits: not from 36 to 52");
    if (ret->ring != -1 && ret->ring != 0 && ret->ring != 3)
        mv_die(MV_EXIT_FAILURE, "core: configuration key ring: neither auto, 0 nor 3");
}
