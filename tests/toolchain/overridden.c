// Functions that a fat binary's modules take over, one that only they have, and a system call.
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

long fresh(long value);

int main(void)
{
    long pid = getpid(), again = getpid(), parent = syscall(SYS_getppid);
    printf("%d %d %d %ld\n", pid == 7654321, again == syscall(SYS_getpid), parent == 1234567,
           fresh(-5));
    return 0;
}
