// Pages and objects, and that Linux knows the addresses.
#include "check.h"

#ifndef AEROKERNEL_NATIVE
#include <unistd.h>
#endif

static void pages(void)
{
    struct ak_memory_info before, after;
    void *blocks[AK_ORDER_MAX + 1];
    ak_memory_info(&before);
    for (unsigned order = 0; order <= AK_ORDER_MAX; order++) {
        blocks[order] = ak_pages_alloc(order);
        size_t size = (size_t)4096 << order;
        CHECK(blocks[order] && (size_t)blocks[order] % size == 0);
        memset(blocks[order], (int)order + 1, order < 10 ? size : 4096);
    }
    for (unsigned order = 0; order <= AK_ORDER_MAX; order++)
        CHECK(*(char *)blocks[order] == (char)(order + 1));
    CHECK(ak_pages_alloc(AK_ORDER_MAX + 1) == NULL);
    for (unsigned order = 0; order <= AK_ORDER_MAX; order++)
        ak_pages_free(blocks[order]);
    ak_memory_info(&after);
    CHECK(after.used_bytes == before.used_bytes);
    void *largest = ak_pages_alloc(AK_ORDER_MAX); // neighbours have been joined again
    CHECK(largest);
    ak_pages_free(largest);
    ak_memory_info(&before);
    CHECK(before.arena_bytes == after.arena_bytes);
}

static void objects(void)
{
    enum { COUNT = 3000 };
    static char *object[COUNT];
    static size_t size[COUNT];
    unsigned seed = 1;
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < COUNT; i++) {
            seed = seed * 1103515245 + 12345;
            if (object[i]) {
                for (size_t k = 0; k < size[i]; k++)
                    CHECK(object[i][k] == (char)i);
                ak_free(object[i]);
                object[i] = NULL;
            } else if (seed >> 16 & 1) {
                size[i] = 1 + (seed >> 17) % (seed >> 30 ? 300 : 9000);
                object[i] = ak_alloc(size[i]);
                CHECK(object[i] && (size_t)object[i] % 16 == 0);
                CHECK(ak_alloc_size(object[i]) >= size[i]);
                memset(object[i], i, size[i]);
            }
        }
    for (int i = 0; i < COUNT; i++)
        ak_free(object[i]);
    ak_free(NULL);
    char *zero = ak_zalloc(2000);
    for (int i = 0; i < 2000; i++)
        CHECK(zero[i] == 0);
    ak_free(zero);
    CHECK(ak_alloc((size_t)1 << 40) == NULL);
}

#ifndef AEROKERNEL_NATIVE
static void linux_knows(void)
{
    int ends[2];
    char *out = ak_alloc(100), *in = ak_pages_alloc(0);
    CHECK(pipe(ends) == 0);
    strcpy(out, "through a pipe");
    CHECK(write(ends[1], out, 15) == 15 && read(ends[0], in, 4096) == 15);
    CHECK(strcmp(in, out) == 0);
    ak_free(out);
    ak_pages_free(in);
}
#endif

static void *free_there(void *arg)
{
    void **objects = arg;
    CHECK(ak_attach() == 0);
    for (int i = 0; i < 1000; i++)
        ak_free(objects[i]);
    for (int i = 0; i < 1000; i++)
        objects[i] = ak_zalloc(64);
    return NULL;
}

static void two_cpus(void)
{
    static void *objects[1000];
    for (int round = 0; round < 10; round++) {
        elsewhere other;
        for (int i = 0; i < 1000; i++)
            CHECK((objects[i] = ak_alloc(64)) != NULL);
        CHECK(begin_elsewhere(&other, free_there, objects) == 0);
        end_elsewhere(other);
        for (int i = 0; i < 1000; i++) {
            CHECK(*(long *)objects[i] == 0);
            ak_free(objects[i]);
        }
    }
}

int main(void)
{
    attach();
    PART(pages);
    PART(objects);
#ifndef AEROKERNEL_NATIVE
    PART(linux_knows);
#endif
    PART(two_cpus);
    return 0;
}
