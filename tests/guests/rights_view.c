// Proves that what a thread sees is its own: working directory, root, file creation mask, mounts,
// host name and other namespaces, personality and rules on itself, shared or not as asked for, from
// the very next call on.
#include "rights.h"

#include <linux/landlock.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/utsname.h>

static char here[300], there[300], jail[300];

// Each directory has a file named for it.
static void make_files(void)
{
    umask(0);
    make_directory("here", 0, 0, 0777);
    make_file("here/here", "h", 0, 0, 0644);
    make_directory("there", 0, 0, 0777);
    make_file("there/there", "t", 0, 0, 0644);
    make_file("there/longer", "four", 0, 0, 0644);
    make_file("here/longer", "0123456789", 0, 0, 0644);
    make_directory("jail", 0, 0, 0777);
    make_directory("jail/jail", 0, 0, 0777);
    in_directory(here, "here");
    in_directory(there, "there");
    in_directory(jail, "jail");
    NEED(chdir(here) == 0);
}

static long size_of(const char *path)
{
    struct stat status;
    return stat(path, &status) ? -1 : status.st_size;
}

static long mode_of_new_file(void)
{
    char name[40];
    struct stat status;
    sprintf(name, "new%d", gettid());
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0777);
    if (fd == -1)
        return -1;
    NEED(fstat(fd, &status) == 0 && close(fd) == 0 && unlink(name) == 0);
    return status.st_mode & 0777;
}

static long where(void)
{
    char path[400];
    if (!getcwd(path, sizeof(path)))
        return -1;
    return !strcmp(path, here) ? 1 : !strcmp(path, there) ? 2 : !strcmp(path, "/") ? 3 : 0;
}

static void probe_directory(void)
{
    TRY("getcwd", where());
    TRY("stat here", stat_of("here"));
    TRY("stat there", stat_of("there"));
    TRY("size", size_of("longer"));
    TRY("access", access("there", F_OK));
    TRY("open", open_and_close("there"));
    TRY("new file's mode", mode_of_new_file());
    TRY("root", access("/jail", F_OK));
    TRY("above", access("/proc/self", F_OK));
}

static long change_directory(void)
{
    return chdir(there);
}

static long change_directory_by_fd(void)
{
    int fd = open(there, O_PATH | O_DIRECTORY);
    NEED(fd >= 0);
    long result = fchdir(fd);
    NEED(close(fd) == 0);
    return result;
}

static long change_mask(void)
{
    umask(027);
    return 0;
}

static long own_directory(void)
{
    return unshare(CLONE_FS) || chdir(there) ? -1 : change_mask();
}

static long only_unshare(void)
{
    return unshare(CLONE_FS);
}

static long change_root(void)
{
    return chroot(jail);
}

static long own_root(void)
{
    return unshare(CLONE_FS) ? -1 : chroot(jail);
}

static long own_root_and_directory(void)
{
    return own_root() ? -1 : chdir("/");
}

// Run something in a child, so that the next begins anew.
static void in_child(const char *name, void (*run)(long (*change)(void)), long (*change)(void))
{
    say("try", "%s", name);
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        run(change);
        _exit(0);
    }
    wait_and_say("ended", child);
}

static void directory_alone(long (*change)(void))
{
    run_alone(probe_directory, change);
}

static void directory_main(long (*change)(void))
{
    run_team(NULL, probe_directory, change, 0);
}

static void directory_thread(long (*change)(void))
{
    run_team(NULL, probe_directory, change, 2);
}

// After one thread has gone its own way, the others move.
static void directory_both(long (*change)(void))
{
    run_team(NULL, probe_directory, only_unshare, 0);
    run_team(NULL, probe_directory, change, 1);
}

static void directories(void)
{
    make_files();
    static const struct {
        const char *name;
        long (*change)(void);
        bool root;
    } changes[] = {{"chdir", change_directory, false},
                   {"fchdir", change_directory_by_fd, false},
                   {"umask", change_mask, false},
                   {"unshare(CLONE_FS)", own_directory, false},
                   {"chroot", change_root, true},
                   {"unshare(CLONE_FS), chroot", own_root, true},
                   {"unshare(CLONE_FS), chroot, chdir", own_root_and_directory, true}};
    for (unsigned i = 0; i < COUNT(changes); i++) {
        if (changes[i].root && geteuid() != 0)
            continue;
        in_child(changes[i].name, directory_alone, changes[i].change);
        in_child(changes[i].name, i % 2 ? directory_main : directory_thread, changes[i].change);
    }
    in_child("chdir beside one that has its own", directory_both, change_directory);
    directory_alone(change_directory);
    directory_thread(own_directory);
}

// One thread moves to and fro, and after each step all look at once: where the directory is shared
// all have moved, where the mover has its own only it has.
static bool directory_shared;
static unsigned long wrong[THREADS];

static void *moves(void *arg)
{
    number = (int)(long)arg;
    if (number == 1 && !directory_shared)
        NEED(unshare(CLONE_FS) == 0);
    for (int i = 1; i <= 2 * times; i++) {
        bool moved = i % 2 && (directory_shared || number == 1);
        meet();
        if (number == 1) {
            NEED(chdir(i % 2 ? there : here) == 0);
            wrong[number] += where() != (i % 2 ? 2 : 1);
        }
        meet();
        for (int j = 0; j < 3; j++) {
            wrong[number] += where() != (moved ? 2 : 1);
            wrong[number] += (stat_of("there") == 0) != moved;
            wrong[number] += size_of("longer") != (moved ? 4 : 10);
        }
    }
    return arg;
}

static void to_and_fro(void)
{
    make_files();
    for (int i = 0; i < 2; i++) {
        directory_shared = i == 0;
        all_run(moves);
        for (int j = 0; j < THREADS; j++)
            say(directory_shared ? "shared" : "own", "thread %d: wrong %lu", j, wrong[j]);
    }
}

// ---- Namespaces: each link of /proc/thread-self/ns is as at the start, or not ----

static const char *const kinds[] = {"mnt", "uts", "net", "ipc", "user", "cgroup"};
static char at_start[COUNT(kinds)][64];
static int message_queue;

static void read_namespace(const char *kind, char link[64])
{
    char path[64];
    sprintf(path, "/proc/thread-self/ns/%s", kind);
    memset(link, 0, 64);
    NEED(readlink(path, link, 63) > 0);
}

static void remember_namespaces(void)
{
    for (unsigned i = 0; i < COUNT(kinds); i++)
        read_namespace(kinds[i], at_start[i]);
}

static long same_namespace(unsigned which)
{
    char link[64];
    read_namespace(kinds[which], link);
    return !strcmp(link, at_start[which]);
}

static long host_name(void)
{
    struct utsname name;
    NEED(uname(&name) == 0);
    return !strcmp(name.nodename, "first") ? 1 : !strcmp(name.nodename, "second") ? 2 : 0;
}

static long release_is_26(void)
{
    struct utsname name;
    NEED(uname(&name) == 0);
    return !strncmp(name.release, "2.6.", 4);
}

static void probe_namespaces(void)
{
    TRY("mnt", same_namespace(0));
    TRY("uts", same_namespace(1));
    TRY("net", same_namespace(2));
    TRY("ipc", same_namespace(3));
    TRY("user", same_namespace(4));
    TRY("uname", host_name());
    TRY("in the mount", stat_of("mounted"));
    TRY("queue", msgget(4711, 0) >= 0 ? 0 : -1);
    TRY("getuid", getuid());
    TRY("geteuid", geteuid());
    TRY("personality", personality(0xffffffff));
    TRY("release", release_is_26());
}

static long new_uts(void)
{
    return unshare(CLONE_NEWUTS) ? -1 : sethostname("second", 6);
}

static long new_net(void)
{
    return unshare(CLONE_NEWNET);
}

static long new_ipc(void)
{
    return unshare(CLONE_NEWIPC);
}

static long new_user(void)
{
    return unshare(CLONE_NEWUSER);
}

static long new_mounts(void)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", here, "tmpfs", 0, NULL) || chdir(here))
        return -1;
    int fd = open("mounted", O_WRONLY | O_CREAT, 0600);
    NEED(fd >= 0 && close(fd) == 0);
    return 0;
}

static long old_release(void)
{
    return personality(UNAME26) == -1 ? -1 : 0;
}

// There and back: what setns() brings is seen at once, and so is what it takes away.
static int uts_namespaces[2];

static void enter(int fd, int type)
{
    NEED(setns(fd, type) == 0);
}

static int namespace_fd(const char *kind)
{
    char path[64];
    sprintf(path, "/proc/thread-self/ns/%s", kind);
    int fd = open(path, O_RDONLY);
    NEED(fd >= 0);
    return fd;
}

static long there_and_back(void)
{
    for (int i = 0; i < 2 * times; i++) {
        enter(uts_namespaces[i % 2 == 0], CLONE_NEWUTS);
        for (int j = 0; j < 3; j++)
            if (host_name() != (i % 2 == 0) + 1)
                return errno = EDOM, -1;
    }
    return 0;
}

// setns() to a mount namespace asks that nobody shares one's working directory.
static long mounts_and_back(void)
{
    int fd = namespace_fd("mnt");
    if (new_mounts())
        return -1;
    struct stat status;
    for (int i = 0; i < times; i++)
        if (stat("mounted", &status))
            return errno = EDOM, -1;
    if (setns(fd, CLONE_NEWNS) || chdir(here))
        return -1;
    return close(fd);
}

static void begin_namespaces(void)
{
    NEED(unshare(CLONE_NEWUTS | CLONE_NEWIPC) == 0 && sethostname("first", 5) == 0);
    message_queue = msgget(4711, IPC_CREAT | 0600);
    NEED(message_queue >= 0);
    remember_namespaces();
    uts_namespaces[0] = namespace_fd("uts");
}

static void namespaces_alone(long (*change)(void))
{
    run_alone(probe_namespaces, change);
}

static void namespaces_thread(long (*change)(void))
{
    run_team(NULL, probe_namespaces, change, 1);
}

static void namespaces_main(long (*change)(void))
{
    run_team(NULL, probe_namespaces, change, 0);
}

static void namespaces(void)
{
    make_files();
    if (missing(geteuid() != 0, "root") ||
        missing(unshare(CLONE_NEWUTS | CLONE_NEWIPC) != 0, "UTS and IPC namespaces"))
        return;
    begin_namespaces();
    static const struct {
        const char *name;
        long (*change)(void);
    } changes[] = {
        {"CLONE_NEWUTS", new_uts},    {"CLONE_NEWNET", new_net},
        {"CLONE_NEWIPC", new_ipc},    {"CLONE_NEWNS", new_mounts},
        {"personality", old_release}, {"setns to mounts", mounts_and_back},
    };
    for (unsigned i = 0; i < COUNT(changes); i++) {
        in_child(changes[i].name, namespaces_alone, changes[i].change);
        in_child(changes[i].name, i % 2 ? namespaces_main : namespaces_thread, changes[i].change);
    }
    NEED(unshare(CLONE_NEWUTS) == 0 && sethostname("second", 6) == 0);
    uts_namespaces[1] = namespace_fd("uts");
    enter(uts_namespaces[0], CLONE_NEWUTS);
    in_child("setns", namespaces_alone, there_and_back);
    in_child("setns", namespaces_thread, there_and_back);
    in_child("setns", namespaces_main, there_and_back);
    NEED(msgctl(message_queue, IPC_RMID, NULL) == 0);
    namespaces_main(mounts_and_back);
}

// Linux allows this to a process of one thread only.
static void user_namespace(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    remember_namespaces();
    in_child("threads", namespaces_thread, new_user);
    in_child("alone", namespaces_alone, new_user);
}

// Enter the mounts of another process, as nsenter does: nobody may share one's working directory.
static void others_mounts(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    remember_namespaces();
    int made[2], ended[2];
    char byte;
    NEED(pipe(made) == 0 && pipe(ended) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(ended[1]);
        NEED(new_mounts() == 0 && write(made[1], "x", 1) == 1);
        (void)!read(ended[0], &byte, 1);
        _exit(0);
    }
    NEED(read(made[0], &byte, 1) == 1);
    warm();
    char path[64];
    sprintf(path, "/proc/%d/ns/mnt", child);
    int fd = open(path, O_RDONLY);
    NEED(fd >= 0);
    say("setns", "%s", outcome(setns(fd, CLONE_NEWNS)));
    say("chdir", "%s", outcome(chdir(here)));
    probe_namespaces();
    NEED(close(ended[1]) == 0);
    wait_and_say("child", child);
}

// A new namespace of processes is for children; threads cannot be made any more.
static void *looks_at_ids(void *arg)
{
    TRY("thread: getpid", getpid() < 100);
    return arg;
}

static void process_namespace(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    pthread_t thread;
    warm();
    say("unshare", "%s", outcome(unshare(CLONE_NEWPID)));
    TRY("getpid is the same", getpid() == gettid());
    pid_t child = fork();
    if (child == 0) {
        warm();
        TRY("getpid", getpid());
        TRY("getppid", getppid());
        TRY("gettid", gettid());
        NEED(pthread_create(&thread, NULL, looks_at_ids, NULL) == 0);
        pthread_join(thread, NULL);
        _exit(0);
    }
    wait_and_say("child", child);
    child = fork();
    say("fork after its init has ended", "%s", outcome(child));
    int error = pthread_create(&thread, NULL, looks_at_ids, NULL);
    say("pthread_create", "%s", error ? error_name(error) : "ok");
    TRY("getuid", getuid());
}

// ---- Rules that a thread sets itself ----

static char allowed_file[300], denied_file[300];

static void probe_rules(void)
{
    TRY("allowed", open_and_close(allowed_file));
    TRY("denied", open_and_close(denied_file));
    TRY("stat of denied", stat_of(denied_file));
    TRY("no new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

static long restrict_self(void)
{
    struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE |
                                                               LANDLOCK_ACCESS_FS_READ_DIR};
    int set = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    struct landlock_path_beneath_attr beneath = {
        .allowed_access = rules.handled_access_fs,
        .parent_fd = open(here, O_PATH),
    };
    NEED(set >= 0 && beneath.parent_fd >= 0);
    NEED(syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    long result = syscall(SYS_landlock_restrict_self, set, 0);
    NEED(close(set) == 0 && close(beneath.parent_fd) == 0);
    return result;
}

static long no_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void rules(void)
{
    make_files();
    in_directory(allowed_file, "here/here");
    in_directory(denied_file, "there/there");
    run_team(NULL, probe_rules, no_new_privileges, 1);
    if (missing(syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1, "landlock"))
        return;
    run_team(NULL, probe_rules, restrict_self, 1);
    run_alone(probe_rules, restrict_self);
    pid_t child = fork();
    if (child == 0) {
        probe_rules();
        _exit(0);
    }
    wait_and_say("child", child);
}

int main(int argc, char **argv)
{
    static const struct mode modes[] = {
        {"directories", directories, false},
        {"to and fro", to_and_fro, false},
        {"namespaces", namespaces, false},
        {"user namespace", user_namespace, false},
        {"others' mounts", others_mounts, false},
        {"process namespace", process_namespace, false},
        {"rules", rules, false},
    };
    return run_modes(argc, argv, modes, COUNT(modes));
}
