#include "base/print.h"

#include "base/string.h"
#include "base/sys.h"

enum { STDERR = 2 };

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

static void print_line(int fd, const char *prefix, const char *fmt, va_list ap)
{
    char line[1024];
    size_t len = mv_format(line, sizeof(line), "%s", prefix);
    len += mv_vformat(line + len, sizeof(line) - len - 1, fmt, ap);
    line[len++] = '\n';
    sys3(__NR_write, fd, line, len);
}

void mv_print(int fd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_line(fd, "", fmt, ap);
    va_end(ap);
}

void mv_print_file(int fd)
{
    char chunk[1024];
    long n;
    while ((n = sys3(__NR_read, fd, chunk, sizeof(chunk))) > 0)
        for (long done = 0, written; done < n; done += written) {
            written = sys3(__NR_write, STDERR, chunk + done, n - done);
            if (written <= 0)
                return;
        }
}

void mv_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_line(STDERR, "multiverse: ", fmt, ap);
    va_end(ap);
}

void mv_die(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_line(STDERR, "multiverse: ", fmt, ap);
    va_end(ap);
    sys_exit_group(status);
}

const char *mv_strerror(long err)
{
    switch (err < 0 ? -err : err) {
    case EPERM:
        return "Operation not permitted";
    case ENOENT:
        return "No such file or directory";
    case EIO:
        return "Input/output error";
    case ENXIO:
    case ENODEV:
        return "No such device";
    case E2BIG:
        return "Argument list too long";
    case ENOEXEC:
        return "Exec format error";
    case EAGAIN:
        return "Resource temporarily unavailable";
    case ENOMEM:
        return "Cannot allocate memory";
    case EACCES:
        return "Permission denied";
    case EBUSY:
        return "Device or resource busy";
    case EEXIST:
        return "Address range already in use";
    case ENOTDIR:
        return "Not a directory";
    case EISDIR:
        return "Is a directory";
    case EINVAL:
        return "Invalid argument";
    case ENFILE:
    case EMFILE:
        return "Too many open files";
    case ETXTBSY:
        return "Text file busy";
    case ENOSPC:
        return "No space left on device";
    case ENAMETOOLONG:
        return "File name too long";
    case ENOSYS:
        return "Function not implemented";
    case ELOOP:
        return "Too many levels of symbolic links";
    case EOPNOTSUPP:
        return "Operation not supported";
    case ELIBBAD:
        return "Accessing a corrupted shared library";
    default:
        return "Unknown error";
    }
}
