// What the tests of the AeroKernel's interface share: each prints what it has found to hold.
#ifndef CHECK_H
#define CHECK_H

#include <aerokernel.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("line %d: not so: %s\n", __LINE__, #condition);                                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

// Run a part of the test and say that nothing in it has failed.
#define PART(fn)                                                                                   \
    do {                                                                                           \
        fn();                                                                                      \
        puts(#fn);                                                                                 \
    } while (0)

static inline void attach(void)
{
    CHECK(ak_attach() == 0);
    CHECK(ak_attach() == 0); // once more does no harm
}

#endif
