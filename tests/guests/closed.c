// Proves that a program started with closed standard descriptors finds them closed, and gets the
// same numbers for what it opens: nobody's own descriptors show up in their place. Reports into
// the file named by its argument.
#include "guest.h"

#include <fcntl.h>

int main(int argc, char **argv)
{
    char text[400];
    int used = 0, error[3], opened[4];
    for (int fd = 0; fd < 3; fd++)
        error[fd] = fcntl(fd, F_GETFD) == -1 ? errno : 0;
    long written = write(1, "out\n", 4), complained = write(2, "err\n", 4);
    for (unsigned i = 0; i < COUNT(opened); i++)
        opened[i] = open("/dev/null", O_RDWR);
    int report = argc > 1 ? open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600) : 1;
    for (int fd = 0; fd < 3; fd++)
        used += sprintf(text + used, "%d: %s\n", fd, error[fd] ? error_name(error[fd]) : "open");
    used += sprintf(text + used, "written: %ld %ld\nopened:", written, complained);
    for (unsigned i = 0; i < COUNT(opened); i++)
        used += sprintf(text + used, " %d", opened[i]);
    used += sprintf(text + used, "\n");
    return write(report, text, used) == used ? 5 : 6;
}
