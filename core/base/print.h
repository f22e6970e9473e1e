// The one-line messages of the core.
#ifndef MV_BASE_PRINT_H
#define MV_BASE_PRINT_H

#include "base/format.h"

// Exit statuses of our own (see docs/specification.md).
enum {
    MV_EXIT_FAILURE = 125,        // Multiverse itself cannot run the program
    MV_EXIT_NOT_EXECUTABLE = 126, // as a shell says it
    MV_EXIT_NOT_FOUND = 127,
};

// Write a line to a descriptor in one write; short writes and errors are ignored.
void mv_print(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Copy a file to stderr, from where it stands to its end or an error.
void mv_print_file(int fd);

// Write "multiverse: ...\n" to stderr.
void mv_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// mv_error() and exit_group(status).
_Noreturn void mv_die(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// The words for an errno (positive or negative), for example "Permission denied".
const char *mv_strerror(long err);

#endif
