// Lists of key=value with commas in between: the CONFIG arguments of the core.
#ifndef MV_BASE_KEYS_H
#define MV_BASE_KEYS_H

#include "base/types.h"

// One key=value. text, value: not terminated; the value of what has no = is empty.
struct mv_item {
    const char *text, *value;
    size_t len, value_len; // bytes
    char key[32];          // one that is longer is cut off
};

// Take the next item off the list; empty ones are left out. Returns false at the end.
bool mv_item_next(const char **list, struct mv_item *ret);

// True if the item's value is this word.
bool mv_item_is(const struct mv_item *item, const char *word);

// Put an item's value into a member of a structure. Returns NULL, or in words what is wrong with
// the value.
typedef const char *mv_key_parser(const struct mv_item *item, void *member);
mv_key_parser mv_key_number; // unsigned, or int: at most seven decimal digits
mv_key_parser mv_key_auto;   // int: a number, or -1 for `auto`
mv_key_parser mv_key_flag;   // bool: true unless the number is 0

struct mv_key {
    const char *name;
    mv_key_parser *parse;
    size_t member; // its offset in the structure
};

enum { MV_KEYS_WRONG = 96 }; // bytes of what is wrong with a list, in words

// Put the values of a list into a structure. Returns false at the first unknown key or wrong value
// and says in `wrong` which.
bool mv_keys_parse(const char *list, const struct mv_key *keys, unsigned count, void *structure,
                   char wrong[MV_KEYS_WRONG]);

#endif
