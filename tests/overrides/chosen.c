#include <aerokernel/override.h>

int strcmp(const char *a, const char *b);
char *strcpy(char *to, const char *from);

static int nothings;

static int64_t chosen_length(const char *text)
{
    if (*text != '?') // not while the C library is not ready yet: strcmp() is one of its
        return AK_FALLBACK;
    return strcmp(text, "?special") ? AK_FALLBACK : 1234;
}

static void *chosen_copy(char *to, const char *from, size_t size)
{
    (void)from, (void)size;
    return strcpy(to, "overridden");
}

static int64_t chosen_time(void)
{
    return 77;
}

struct timeval {
    int64_t tv_sec, tv_usec;
};

static int chosen_now(struct timeval *now)
{
    *now = (struct timeval){.tv_sec = 88};
    return 0;
}

static void chosen_nothing(void)
{
    nothings++;
}

static int64_t chosen_same(const char *pointer)
{
    return nothings ? (int64_t)(pointer + 1) : AK_FALLBACK;
}

static long chosen_first(const long *where)
{
    return *where + 1;
}

static int64_t chosen_forward(const long *where)
{
    return *where == 5 ? AK_FALLBACK : 0;
}

static int chosen_zero(void)
{
    return 10;
}
