#include "base/print.h"

#include "base/string.h"
#include "base/sys.h"

enum { STDERR = 2 };

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
