#include "malloc.h"

#include <aerokernel/override.h>
#include <asm/errno.h>
#include <linux/mman.h>

// glibc's header of a block: what is mapped before it, and the size of all that is mapped.
struct head {
    uint64_t before, size;
};

enum { UNKNOWN, SUITABLE, UNSUITABLE };
static int library;

static uint64_t bytes_for(size_t size)
{
    return (size + sizeof(struct head) + MALLOC_PAGE - 1) & -(uint64_t)MALLOC_PAGE;
}

static struct head *head_of(void *block)
{
    return (struct head *)block - 1;
}

static uint64_t bytes_of(const struct head *head)
{
    return head->size & -(uint64_t)MALLOC_PAGE;
}

static void *block_at(struct head *head, uint64_t bytes)
{
    head->size = bytes | MALLOC_MAPPED | MALLOC_OURS;
    return head + 1;
}

// Before 2.34 the program can have hooks in malloc.
static bool has_no_hooks(void)
{
    enum { MAJOR = 2, MINOR = 34 };
    const char *at = gnu_get_libc_version();
    unsigned number[2] = {0};
    for (unsigned i = 0; i < 2; i++, at += *at == '.')
        for (; *at >= '0' && *at <= '9'; at++)
            number[i] = number[i] * 10 + (unsigned)(*at - '0');
    return number[0] > MAJOR || (number[0] == MAJOR && number[1] >= MINOR);
}

// True if the C library takes this block for one of its own.
static bool is_suitable(void *block, uint64_t bytes)
{
    int known = __atomic_load_n(&library, __ATOMIC_RELAXED);
    if (known == UNKNOWN) {
        bool right = has_no_hooks() && malloc_usable_size(block) == bytes - sizeof(struct head);
        known = right ? SUITABLE : UNSUITABLE;
        __atomic_store_n(&library, known, __ATOMIC_RELAXED);
    }
    return known == SUITABLE;
}

static void unmap(struct head *head, uint64_t bytes)
{
    int *error = __errno_location(), before = *error;
    munmap(head, bytes);
    *error = before;
}

// flags: of the mapping.
static int64_t map_block(size_t size, int flags)
{
    int *error = __errno_location(), before = *error;
    uint64_t bytes = bytes_for(size);
    if (__atomic_load_n(&library, __ATOMIC_RELAXED) == UNSUITABLE)
        return AK_FALLBACK;
    struct head *head =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (head == (struct head *)-1) {
        *error = before; // glibc may still have it
        return AK_FALLBACK;
    }
    head->before = 0;
    void *block = block_at(head, bytes);
    if (is_suitable(block, bytes))
        return (int64_t)block;
    unmap(head, bytes);
    return AK_FALLBACK;
}

int64_t malloc_block(size_t size)
{
    return map_block(size, MAP_UNINITIALIZED);
}

int64_t malloc_zeroed(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || !malloc_is_large(bytes))
        return AK_FALLBACK;
    return map_block(bytes, 0);
}

int64_t malloc_resized(void *block, size_t size)
{
    struct head *head = head_of(block);
    uint64_t before = bytes_of(head), bytes = bytes_for(size);
    if (!size) {
        malloc_freed(block);
        return 0;
    }
    if (size > PTRDIFF_MAX)
        return -ENOMEM;
    if (bytes == before)
        return (int64_t)block;
    int *error = __errno_location(), kept = *error;
    struct head *moved = mremap(head, before, bytes, MREMAP_MAYMOVE);
    if (moved != (struct head *)-1)
        return (int64_t)block_at(moved, bytes);
    *error = kept;
    return bytes < before ? (int64_t)block : -ENOMEM;
}

void malloc_freed(void *block)
{
    struct head *head = head_of(block);
    unmap(head, bytes_of(head));
}
