#include "base/format.h"

struct sink {
    char *buf;
    size_t size, len;
};

static void put(struct sink *out, char c)
{
    if (out->len + 1 < out->size)
        out->buf[out->len++] = c;
}

static void put_number(struct sink *out, uint64_t value, unsigned base)
{
    char digits[24];
    int n = 0;
    do
        digits[n++] = "0123456789abcdef"[value % base];
    while (value /= base);
    while (n)
        put(out, digits[--n]);
}

size_t mv_vformat(char *buf, size_t size, const char *fmt, va_list ap)
{
    struct sink out = {.buf = buf, .size = size};
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(&out, *fmt);
            continue;
        }
        bool is_long = *++fmt == 'l';
        if (is_long)
            fmt++;
        switch (*fmt) {
        case 's':
            for (const char *s = va_arg(ap, const char *); *s; s++)
                put(&out, *s);
            break;
        case 'c':
            put(&out, (char)va_arg(ap, int));
            break;
        case 'd': {
            long value = is_long ? va_arg(ap, long) : va_arg(ap, int);
            if (value < 0)
                put(&out, '-');
            put_number(&out, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
            break;
        }
        case 'u':
        case 'x':
            put_number(&out, is_long ? va_arg(ap, unsigned long) : va_arg(ap, unsigned),
                       *fmt == 'x' ? 16 : 10);
            break;
        default:
            put(&out, *fmt);
        }
    }
    if (size)
        buf[out.len] = 0;
    return out.len;
}

size_t mv_format(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t len = mv_vformat(buf, size, fmt, ap);
    va_end(ap);
    return len;
}
