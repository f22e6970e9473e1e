// The round trip of a system call, in cycles.
//
// usage: roundtrip absent|getppid SINGLES BATCHES
// "absent" makes call number 334 (rseq), which an HRT does not have: the ROS side answers ENOSYS
// without asking Linux, so what is left is the round trip itself. "getppid" is the C library's.
// The line "result" says what the call gave, or minus its error.
#include "micro.h"

#include <string.h>
#include <unistd.h>

// Always the same SYSCALL instruction, in the words in which a C library has it: where such
// instructions are expensive, the AeroKernel may replace one that it has seen often enough.
// Natively the call has arguments that Linux refuses.
long absent(void);
__asm__(".text\n"
        ".type absent, @function\n"
        "absent:\n"
        "    xor %edi, %edi\n"
        "    xor %esi, %esi\n"
        "    mov $334, %eax\n"
        "    syscall\n"
        "    ret\n"
        ".size absent, . - absent\n");

static void go_absent(void *result)
{
    *(long *)result = absent();
}

static void go_getppid(void *result)
{
    *(long *)result = getppid();
}

int main(int argc, char **argv)
{
    struct sampling how;
    long result = 0;

    if (argc != 4 || (strcmp(argv[1], "absent") && strcmp(argv[1], "getppid")) ||
        read_sampling(argv + 2, &how)) {
        fputs("usage: roundtrip absent|getppid SINGLES BATCHES\n", stderr);
        return 2;
    }
    round_trips(&how, strcmp(argv[1], "absent") ? go_getppid : go_absent, &result);
    printf("result %ld\n", result);
    return 0;
}
