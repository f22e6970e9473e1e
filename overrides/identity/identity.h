// Who the calling thread is to Linux. Every function may return AK_FALLBACK.
#ifndef IDENTITY_H
#define IDENTITY_H

#include <stdint.h>

enum identity_number { IDENTITY_UID, IDENTITY_EUID, IDENTITY_GID, IDENTITY_EGID };

int64_t identity_pid(void);
int64_t identity_tid(void);
// User and group numbers belong to a thread in Linux. They change only by calls of that thread,
// which give it another epoch, and when a user namespace gets a mapping.
int64_t identity_user(enum identity_number number);

#endif
