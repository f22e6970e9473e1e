#include "base/print.h"
#include "base/string.h"
#include "main/main.h"

enum { MEMORY_HIGH_MIB = 256 };

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

// A set of CPUs as a hexadecimal mask with 0x in front; dies if it is none, or empty.
static struct ros_cpus cpu_mask(const char *key, const char *text, size_t len)
{
    struct ros_cpus cpus = {0};
    uint64_t any = 0;
    bool valid = len > 2 && len <= 2 + ROS_CPUS_MAX / 4 && text[0] == '0' && text[1] == 'x';
    for (size_t i = 0; valid && i < len - 2; i++) {
        char c = text[len - 1 - i];
        uint64_t digit = c >= '0' && c <= '9' ? (uint64_t)(c - '0') : (uint64_t)(c - 'a' + 10);
        valid = digit < 16;
        cpus.bits[i / 16] |= (digit & 15) << i % 16 * 4;
        any |= digit;
    }
    if (!valid || !any)
        mv_die(MV_EXIT_FAILURE, "core: configuration key %s: not a mask of CPUs", key);
    return cpus;
}

static enum ros_channel_mode channel_mode(const char *text, size_t len)
{
    static const char *const names[] = {"auto", "sync", "async"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i]) == len && strncmp(text, names[i], len) == 0)
            return (enum ros_channel_mode)i;
    mv_die(MV_EXIT_FAILURE, "core: configuration key channel: neither auto, sync nor async");
}

// Any text without a comma. One that is too long counts as none.
static void text_of(char ret[MV_TEXT_BYTES], const char *text, size_t len)
{
    if (len < MV_TEXT_BYTES)
        memcpy(ret, text, len);
}

void mv_config_inherit(const char *text, char *ret, size_t size)
{
    static const char *const dropped[] = {"require=", "quiet=", "loadonly=",    "stats=",
                                          "trace=",   "debug=", "debugsocket=", "override="};
    size_t used = (size_t)mv_format(ret, size, "quiet=1");
    while (*text) {
        size_t len = 0;
        bool drop = false;
        while (text[len] && text[len] != ',')
            len++;
        for (unsigned i = 0; i < ARRAY_SIZE(dropped); i++)
            drop = drop || strncmp(text, dropped[i], strlen(dropped[i])) == 0;
        if (!drop && len && used + 1 + len < size) {
            ret[used] = ',';
            memcpy(ret + used + 1, text, len);
            used += 1 + len;
            ret[used] = 0;
        }
        text += len + (text[len] == ',');
    }
}

void mv_config_parse(const char *text, struct mv_config *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->ring = ret->stats_fd = ret->trace_fd = ret->debug_fd = ret->debug_socket = -1;
    ret->override_fd = -1;
    ret->memory_high = MEMORY_HIGH_MIB;
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
        else if (strcmp(key, "debug") == 0)
            ret->debug_fd = (int)number(key, value, value_len);
        else if (strcmp(key, "override") == 0)
            ret->override_fd = (int)number(key, value, value_len);
        else if (strcmp(key, "debugsocket") == 0)
            ret->debug_socket = (int)number(key, value, value_len);
        else if (strcmp(key, "crash") == 0)
            text_of(ret->crash, value, value_len);
        else if (strcmp(key, "python") == 0)
            text_of(ret->python, value, value_len);
        else if (strcmp(key, "channel") == 0)
            ret->channel.mode = channel_mode(value, value_len);
        else if (strcmp(key, "pollers") == 0)
            ret->channel.pollers = number(key, value, value_len);
        else if (strcmp(key, "roscpus") == 0)
            ret->channel.ros_cpus = cpu_mask(key, value, value_len);
        else if (strcmp(key, "memoryhigh") == 0)
            ret->memory_high = number(key, value, value_len);
        else if (strcmp(key, "hrtmemory") == 0)
            ret->hrt_memory = number(key, value, value_len);
        else if (strcmp(key, "hrtcpus") == 0)
            ret->hrt_cpus = cpu_mask(key, value, value_len);
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
