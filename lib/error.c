#include <stdarg.h>
#include <stdio.h>

#include "hrt.h"

static __thread char text[256];

int fail(int err, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return err;
}

const char *mv_error(void)
{
    return text;
}
