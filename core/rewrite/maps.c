#include "rewrite/maps.h"

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/fcntl.h>

#include "base/sys.h"

static uint64_t hex(const char **text)
{
    uint64_t value = 0;
    for (;; ++*text) {
        char c = **text;
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return value;
    }
}

// "start-end rwxp ..."
static void parse(const char *line, struct rw_mapping *ret)
{
    ret->start = hex(&line);
    line++;
    ret->end = hex(&line);
    ret->readable = line[1] == 'r';
    ret->writable = line[2] == 'w';
    ret->executable = line[3] == 'x';
    ret->shared = line[4] == 's';
}

int rw_walk_mappings(bool (*visit)(const struct rw_mapping *mapping, void *argument),
                     void *argument)
{
    enum { HEAD = 48 }; // of a line; the rest is a name
    char chunk[4096], head[HEAD + 1] = {0};
    struct rw_mapping mapping;
    unsigned length = 0;
    bool done = false;
    long n, fd = sys3(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return (int)fd;
    while (!done && (n = sys3(__NR_read, fd, chunk, sizeof(chunk))) > 0) {
        for (long i = 0; i < n && !done; i++) {
            if (chunk[i] != '\n') {
                if (length < HEAD)
                    head[length++] = chunk[i];
                continue;
            }
            head[length] = 0;
            parse(head, &mapping);
            length = 0;
            done = visit(&mapping, argument);
        }
    }
    sys1(__NR_close, fd);
    return done ? 0 : -EFAULT;
}

struct wanted {
    uint64_t address;
    struct rw_mapping *found;
};

static bool holds(const struct rw_mapping *mapping, void *argument)
{
    const struct wanted *wanted = argument;
    if (wanted->address < mapping->start || wanted->address >= mapping->end)
        return false;
    *wanted->found = *mapping;
    return true;
}

int rw_find_mapping(uint64_t address, struct rw_mapping *ret)
{
    struct wanted wanted = {address, ret};
    return rw_walk_mappings(holds, &wanted);
}
