#include "base/format.h"
#include "base/string.h"
#include "main/main.h"

static const char *automatic(const struct mv_item *item, void *off)
{
    *(bool *)off = !mv_item_is(item, "auto");
    return NULL;
}

// A set of CPUs as a hexadecimal mask with 0x in front, and not empty.
static const char *cpu_mask(const struct mv_item *item, void *ret)
{
    struct ros_cpus cpus = {0};
    const char *text = item->value;
    size_t len = item->value_len;
    uint64_t any = 0;
    bool valid = len > 2 && len <= 2 + ROS_CPUS_MAX / 4 && text[0] == '0' && text[1] == 'x';
    for (size_t i = 0; valid && i < len - 2; i++) {
        char c = text[len - 1 - i];
        uint64_t digit = c >= '0' && c <= '9' ? (uint64_t)(c - '0') : (uint64_t)(c - 'a' + 10);
        valid = digit < 16;
        cpus.bits[i / 16] |= (digit & 15) << i % 16 * 4;
        any |= digit;
    }
    *(struct ros_cpus *)ret = cpus;
    return valid && any ? NULL : "not a mask of CPUs";
}

static const char *channel_mode(const struct mv_item *item, void *ret)
{
    static const char *const names[] = {"auto", "sync", "async"};
    unsigned i = 0;
    while (i < ARRAY_SIZE(names) && !mv_item_is(item, names[i]))
        i++;
    *(enum ros_channel_mode *)ret = (enum ros_channel_mode)i;
    return i < ARRAY_SIZE(names) ? NULL : "neither auto, sync nor async";
}

// Any text without a comma. One that is too long counts as none.
static const char *words(const struct mv_item *item, void *ret)
{
    if (item->value_len < MV_TEXT_BYTES)
        memcpy(ret, item->value, item->value_len);
    return NULL;
}

void mv_config_inherit(const char *text, char *ret, size_t size)
{
    static const char *const dropped[] = {"require", "quiet", "loadonly",    "stats",   "profile",
                                          "trace",   "debug", "debugsocket", "override"};
    struct mv_item item;
    size_t used = (size_t)mv_format(ret, size, "quiet=1");
    while (mv_item_next(&text, &item)) {
        bool drop = used + 1 + item.len >= size;
        for (unsigned i = 0; i < ARRAY_SIZE(dropped); i++)
            drop = drop || strcmp(item.key, dropped[i]) == 0;
        if (drop)
            continue;
        ret[used] = ',';
        memcpy(ret + used + 1, item.text, item.len);
        used += 1 + item.len;
        ret[used] = 0;
    }
}

// From 36 to 52.
static const char *phys_bits(const struct mv_item *item, void *ret)
{
    const char *wrong = mv_key_number(item, ret);
    unsigned bits = *(unsigned *)ret;
    return wrong || (bits >= 36 && bits <= 52) ? wrong : "not from 36 to 52";
}

static const char *ring(const struct mv_item *item, void *ret)
{
    const char *wrong = mv_key_auto(item, ret);
    int value = *(int *)ret;
    return wrong || value == -1 || value == 0 || value == 3 ? wrong : "neither auto, 0 nor 3";
}

bool mv_config_parse(const char *text, struct mv_config *ret, char wrong[MV_KEYS_WRONG])
{
#define MEMBER(name) offsetof(struct mv_config, name)
    static const struct mv_key keys[] = {
        {"hvm", automatic, MEMBER(off)},
        {"require", mv_key_flag, MEMBER(require)},
        {"quiet", mv_key_flag, MEMBER(quiet)},
        {"follow", mv_key_flag, MEMBER(follow)},
        {"loadonly", mv_key_flag, MEMBER(loadonly)},
        {"physbits", phys_bits, MEMBER(phys_bits)},
        {"ring", ring, MEMBER(ring)},
        {"stats", mv_key_number, MEMBER(stats_fd)},
        {"trace", mv_key_number, MEMBER(trace_fd)},
        {"profile", mv_key_number, MEMBER(profile_fd)},
        {"debug", mv_key_number, MEMBER(debug_fd)},
        {"debugsocket", mv_key_number, MEMBER(debug_socket)},
        {"override", mv_key_number, MEMBER(override_fd)},
        {"crash", words, MEMBER(crash)},
        {"python", words, MEMBER(python)},
        {"channel", channel_mode, MEMBER(channel.mode)},
        {"pollers", mv_key_number, MEMBER(channel.pollers)},
        {"roscpus", cpu_mask, MEMBER(channel.ros_cpus)},
        {"hrtmemory", mv_key_number, MEMBER(hrt_memory)},
        {"populate", automatic, MEMBER(populate_off)},
        {"memoryhigh", mv_key_number, MEMBER(memory_high)},
        {"hrtcpus", cpu_mask, MEMBER(hrt_cpus)},
    };
    memset(ret, 0, sizeof(*ret));
    ret->ring = ret->stats_fd = ret->trace_fd = ret->profile_fd = -1;
    ret->debug_fd = ret->debug_socket = -1;
    ret->override_fd = -1;
    return mv_keys_parse(text, keys, ARRAY_SIZE(keys), ret, wrong);
}
