// Proves that huge, sparsely used mappings cost only what is touched: 4 GiB of anonymous memory, a
// 64 GiB reservation, a 64 GiB PROT_NONE reservation opened page by page, a 1 TiB sparse file.
#include "guest.h"

#include <sys/mman.h>

static void scatter(const char *name, char *base, uint64_t size, unsigned count)
{
    uint64_t sum = 0, step = size / count / PAGE * PAGE;
    for (unsigned i = 0; i < count; i++)
        *(uint64_t *)(base + i * step + i * 8 % PAGE) = i * 3 + 1;
    *(base + size - 1) = 9;
    for (unsigned i = 0; i < count; i++)
        sum += *(uint64_t *)(base + i * step + i * 8 % PAGE);
    say(name, "sum %lu, last %d, untouched %d", sum, base[size - 1], base[step / 2]);
}

int main(void)
{
    uint64_t size = 4ULL << 30;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    NEED(base != MAP_FAILED);
    scatter("4 GiB", base, size, 1000);
    NEED(munmap(base, size) == 0);

    size = 64ULL << 30;
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    NEED(base != MAP_FAILED);
    scatter("64 GiB", base, size, 100);
    NEED(munmap(base, size) == 0);

    base = mmap(NULL, size, PROT_NONE, flags, -1, 0);
    NEED(base != MAP_FAILED);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 64; i++) {
        char *page = base + ((uint64_t)i << 30) + i * PAGE;
        NEED(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
        *page = (char)i;
        sum += *page;
        NEED(madvise(page, PAGE, MADV_DONTNEED) == 0);
        sum += *page;
    }
    say("opened page by page", "%lu", sum);
    NEED(munmap(base, size) == 0);

    int fd = memfd_create("sparse", 0);
    size = 1ULL << 40;
    NEED(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    NEED(base != MAP_FAILED);
    scatter("1 TiB file", base, size, 50);
    char byte;
    NEED(pread(fd, &byte, 1, (off_t)size - 1) == 1);
    say("read back", "%d", byte);
    return 0;
}
