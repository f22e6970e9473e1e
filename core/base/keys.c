#include "base/keys.h"

#include "base/format.h"
#include "base/string.h"

bool mv_item_next(const char **list, struct mv_item *ret)
{
    const char *text = *list;
    size_t len = 0, split = 0;
    while (*text == ',')
        text++;
    while (text[len] && text[len] != ',')
        len++;
    while (split < len && text[split] != '=')
        split++;
    *list = text + len;
    *ret = (struct mv_item){.text = text, .len = len, .value = text + split + (split < len)};
    ret->value_len = (size_t)(text + len - ret->value);
    memcpy(ret->key, text, MIN(split, sizeof(ret->key) - 1));
    return len != 0;
}

bool mv_item_is(const struct mv_item *item, const char *word)
{
    return strlen(word) == item->value_len && strncmp(item->value, word, item->value_len) == 0;
}

const char *mv_key_number(const struct mv_item *item, void *member)
{
    unsigned value = 0;
    bool valid = item->value_len > 0 && item->value_len <= 7;
    for (size_t i = 0; valid && i < item->value_len; i++) {
        valid = item->value[i] >= '0' && item->value[i] <= '9';
        value = value * 10 + (unsigned)(item->value[i] - '0');
    }
    *(unsigned *)member = value;
    return valid ? NULL : "not a number";
}

const char *mv_key_auto(const struct mv_item *item, void *member)
{
    *(int *)member = -1;
    return mv_item_is(item, "auto") ? NULL : mv_key_number(item, member);
}

const char *mv_key_flag(const struct mv_item *item, void *member)
{
    unsigned number;
    const char *wrong = mv_key_number(item, &number);
    *(bool *)member = number != 0;
    return wrong;
}

bool mv_keys_parse(const char *list, const struct mv_key *keys, unsigned count, void *structure,
                   char wrong[MV_KEYS_WRONG])
{
    struct mv_item item;
    while (mv_item_next(&list, &item)) {
        unsigned i = 0;
        while (i < count && strcmp(keys[i].name, item.key))
            i++;
        if (i == count) {
            mv_format(wrong, MV_KEYS_WRONG, "unknown configuration key %s", item.key);
            return false;
        }
        const char *what = keys[i].parse(&item, (char *)structure + keys[i].member);
        if (what) {
            mv_format(wrong, MV_KEYS_WRONG, "configuration key %s: %s", item.key, what);
            return false;
        }
    }
    return true;
}
