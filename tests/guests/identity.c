// Proves that rights once given up are gone for everything the program does afterwards: setuid,
// setgid, groups, capabilities; in threads, which glibc changes by signals; and in children.
#include "guest.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char path[] = "/tmp/identity-guest-XXXXXX";
static int stage;
static pthread_barrier_t barrier;

static void try_open(const char *name)
{
    int fd = open(path, O_RDONLY);
    say(name, "%s", fd >= 0 ? "ok" : error_name(errno));
    if (fd >= 0)
        close(fd);
    fd = open("/etc/shadow", O_RDONLY);
    say(name, "shadow %s", fd >= 0 ? "ok" : error_name(errno));
    if (fd >= 0)
        close(fd);
}

static void *in_thread(void *arg)
{
    (void)arg;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); // ids are changed in between
    say("thread's ids", "%d %d", geteuid(), getegid());
    try_open("thread");
    return NULL;
}

int main(void)
{
    int fd = mkstemp(path);
    NEED(fd >= 0 && fchmod(fd, 0600) == 0);
    say("root", "%s", yes(geteuid() == 0));
    try_open("before");
    if (geteuid() == 0) {
        say("setfsuid", "%d", setfsuid(12345));
        try_open("with another fsuid");
        setfsuid(0);
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2], none[2] = {0};
        NEED(syscall(SYS_capget, &header, data) == 0);
        say("seteuid", "%s", outcome(seteuid(12345)));
        try_open("with another euid");
        NEED(seteuid(0) == 0);

        // Somebody has to remove the file in the end.
        int done[2];
        NEED(pipe(done) == 0);
        if (fork() == 0) {
            char byte;
            close(done[1]);
            (void)!read(done[0], &byte, 1);
            unlink(path);
            _exit(0);
        }
        close(done[0]);

        pthread_barrier_init(&barrier, NULL, 2);
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, in_thread, NULL) == 0);
        pthread_barrier_wait(&barrier);
        NEED(prctl(PR_SET_KEEPCAPS, 0) == 0);
        gid_t group = 65534;
        NEED(setgroups(1, &group) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
        stage = 1;
        pthread_barrier_wait(&barrier);
        pthread_join(thread, NULL);
        NEED(syscall(SYS_capset, &header, none) == 0);
    }
    say("ids", "%d %d %d", getuid() == 65534, geteuid() == 65534, getegid() == 65534);
    if (stage) {
        try_open("after");
        say("back to root", "%s", outcome(setuid(0)));
        say("chown", "%s", outcome(fchown(fd, 0, 0)));
        say("kill of init", "%s", outcome(kill(1, 0)));
        pid_t child = fork();
        if (child == 0) {
            try_open("child");
            _exit(0);
        }
        wait_and_say("child", child);
        child = fork();
        if (child == 0) {
            execl("/usr/bin/id", "id", "-u", (char *)NULL);
            _exit(99);
        }
        wait_and_say("id", child);
        say("ptrace scope", "dumpable %d", prctl(PR_GET_DUMPABLE));
    } else {
        unlink(path);
    }
    return 0;
}
