// The most memory this process has had resident, as Linux counts it (VmHWM), when it does nothing
// else.
//
// The program asks for itself because the figure a parent gets from wait4() starts at what the
// parent had resident when it forked, which is far more than this program has.
#include "micro.h"

#include <string.h>

int main(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;

    if (!status) {
        perror("/proc/self/status");
        return 1;
    }
    while (fgets(line, sizeof(line), status)) {
        if (!strncmp(line, "VmHWM:", 6))
            kib = strtol(line + 6, NULL, 10);
    }
    fclose(status);
    if (kib < 0) {
        fputs("/proc/self/status: no VmHWM line\n", stderr);
        return 1;
    }
    printf("resident_bytes %ld\n", kib * 1024);
    return 0;
}
