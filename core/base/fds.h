// The core's own file descriptors. They share a table with the program's, so they are kept at
// high numbers, registered, and moved out of the way when the program wants their number.
#ifndef MV_BASE_FDS_H
#define MV_BASE_FDS_H

#include "base/types.h"

// Take over fd: move it high, close-on-exec, and store its number in *owner, which stays
// registered as long as the descriptor is open. Moving cannot fail: at worst the number stays.
void mv_fd_own(int *owner, int fd);

// Close *owner if open, set it to -1 and forget it.
void mv_fd_close(int *owner);

// The registered owner of descriptor number fd, or NULL: then fd is the program's.
int *mv_fd_owner(int fd);

// Move *owner's descriptor to another number. Returns 0 or a negative errno.
int mv_fd_move(int *owner);

// The lowest registered number in [first, last], or -1.
int mv_fd_lowest_owned(unsigned first, unsigned last);

// Forget all descriptors without closing them, in a process that shares its table with their owner.
void mv_fds_forget(void);

// Close them all, in a process with one thread.
void mv_fds_close(void);

// Held across fork, so that the child finds nothing half changed.
void mv_fds_lock(void);
void mv_fds_unlock(void);

#endif
