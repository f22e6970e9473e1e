// Proves that pollers end after a call that changes what their process may do although it does not
// stop calling. Where one does not, this goes on for ever.
#include "guest.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/syscall.h>

// The thread id of a poller, or 0.
static pid_t find_poller(void)
{
    pid_t found = 0;
    DIR *tasks = opendir("/proc/self/task");
    NEED(tasks);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[sizeof("/proc/self/task//comm") + sizeof(entry->d_name)], name[20] = "";
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof(name), file) && strcmp(name, "mv-poller\n") == 0)
            found = atoi(entry->d_name);
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return found;
}

static void calls(int count)
{
    for (int i = 0; i < count; i++)
        NEED(getppid() > 0);
}

int main(void)
{
    pid_t poller;
    while (!(poller = find_poller()))
        calls(100);
    NEED(setpriority(PRIO_PROCESS, 0, 1) == 0);
    // A look that takes long would be a pause.
    while (syscall(SYS_tgkill, getpid(), poller, 0) == 0)
        calls(10);
    say("it ends", "yes");
    return 0;
}
