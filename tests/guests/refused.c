// Calls that a poller could answer by their number, and would refuse each time: nobody is worth
// making for them, however many there are. A poller would be a thread of the process.
#include "guest.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

// A call that a poller could answer itself, but one.
static unsigned long threads(void)
{
    struct stat st;
    return stat("/proc/self/task", &st) ? 0 : st.st_nlink - 2;
}

int main(void)
{
    int pair[2], word = 0;
    char byte = 'x';
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    unsigned long before = threads();
    for (int i = 0; i < 500; i++) {
        struct pollfd fd = {.fd = pair[1], .events = POLLIN};
        if (write(pair[0], &byte, 1) != 1 || poll(&fd, 1, -1) != 1 || read(pair[1], &byte, 1) != 1)
            return 1;
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    }
    if (!before || threads() != before)
        say("threads", "%lu before, %lu now", before, threads());
    else
        say("threads", "as before");
}
