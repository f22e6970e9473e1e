// A library to preload: anonymous mappings of a mebibyte and more ask Linux for huge pages.
//
// With GLIBC_TUNABLES=glibc.malloc.hugetlb=1, which does the same for the memory of malloc, this is
// native Linux with huge pages forced, for a machine that gives them to those that ask.
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LEAST = 1 << 20 };

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    long result = syscall(SYS_mmap, address, length, protection, flags, fd, offset);

    // What Linux cannot give huge pages to it refuses to advise; the mapping is as good as before.
    if (result != -1 && (flags & MAP_ANONYMOUS) && length >= LEAST)
        (void)madvise((void *)result, length, MADV_HUGEPAGE);
    return (void *)result;
}

// The C library's other name of it.
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap(address, length, protection, flags, fd, offset);
}
