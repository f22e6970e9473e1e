// Offsets of regular files, kept in the HRT while nobody but the program's only thread can see or
// move them. Data and sizes are Linux's: other processes may change them at any time. Also epoll
// instances in which there is nothing, while nobody else can add something.
//
// Functions with a result may return AK_FALLBACK: Linux answers.
#ifndef FILES_H
#define FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t files_seek(unsigned fd, int64_t offset, unsigned whence);
int64_t files_read(unsigned fd, void *to, size_t size);
int64_t files_write(unsigned fd, const void *from, size_t size);
int64_t files_control(unsigned fd, unsigned command, uint64_t argument);
int64_t files_dup(unsigned fd);
// epoll_create(2) or, by its number, epoll_create1(2).
int64_t files_epoll_create(unsigned nr, uint64_t argument);
// Is there an event now?
int64_t files_epoll_poll(unsigned fd, const void *events, int count);

// What comes before calls of Linux's.

// A descriptor is about to be closed.
void files_close(unsigned fd);
// epoll_ctl(2): the instance may have something in it soon.
void files_epoll_control(unsigned fd);
// dup2(2): two descriptors are about to be one file.
void files_become(unsigned fd, unsigned other);
// A call that uses or moves the offsets of these descriptors; -1: of none.
void files_use(int fd, int other);
// Linux's offsets are about to be seen.
void files_flush(void);
// Every open file may get another user.
void files_share(void);
// Keep no offsets any more: there may be users of whom nothing is seen here.
void files_stop(void);

void files_ioctl(unsigned fd, unsigned command);
void files_clone(uint64_t flags);
void files_clone3(const void *arguments, size_t size);
void files_message(const void *header, bool sent);

#endif
