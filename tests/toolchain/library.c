// A shared library that knows how often it was begun and ended.
#include <stdio.h>

static int begun;

__attribute__((constructor)) static void begin(void)
{
    begun++;
}

__attribute__((destructor)) static void end(void)
{
    printf("library ends after %d\n", begun);
    fflush(stdout);
}

int library_begun(void);

int library_begun(void)
{
    return begun;
}
