// Proves that user and group ids and capabilities hold for every call made after they are changed
// and for none made before, for the thread that changes its own, and for no other.
#include "rights.h"

#include <grp.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/time.h>

static char secret[300], group_file[300], others_file[300], open_directory[300];
static const char *const created = "created";

static void make_files(void)
{
    umask(0);
    make_directory("secret", 0, 0, 0700);
    make_file("secret/file", "x", 0, 0, 0600);
    make_directory("others", OTHER, OTHER, 0700);
    make_file("others/file", "x", OTHER, OTHER, 0600);
    make_file("group", "x", OTHER + 1, OTHER, 0040);
    make_directory("open", 0, 0, 0777);
    in_directory(secret, "secret/file");
    in_directory(others_file, "others/file");
    in_directory(group_file, "group");
    in_directory(open_directory, "open");
}

static long owner_of_new_file(void)
{
    char path[400];
    struct stat status;
    sprintf(path, "%s/%s%d", open_directory, created, gettid());
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd == -1)
        return -1;
    NEED(fstat(fd, &status) == 0 && close(fd) == 0 && unlink(path) == 0);
    return status.st_uid * 100000L + status.st_gid;
}

static long in_group(gid_t group)
{
    gid_t groups[32];
    int count = getgroups(COUNT(groups), groups);
    for (int i = 0; i < count; i++)
        if (groups[i] == group)
            return count * 10 + 1;
    return count * 10;
}

static long saved_ids(void)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;
    NEED(getresuid(&r, &e, &s) == 0 && getresgid(&rg, &eg, &sg) == 0);
    return s * 100000L + sg;
}

static long has_capability(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    NEED(syscall(SYS_capget, &header, data) == 0);
    uint32_t bit = 1u << capability;
    return !!(data[0].effective & bit) * 100 + !!(data[0].permitted & bit) * 10 +
           prctl(PR_CAPBSET_READ, capability);
}

static void probe(void)
{
    TRY("getuid", getuid());
    TRY("geteuid", geteuid());
    TRY("getgid", getgid());
    TRY("getegid", getegid());
    TRY("saved ids", saved_ids());
    TRY("getgroups", in_group(OTHER));
    TRY("access", access(secret, R_OK));
    TRY("access with effective ids", faccessat(AT_FDCWD, secret, R_OK, AT_EACCESS));
    TRY("open", open_and_close(secret));
    TRY("stat", stat_of(secret));
    TRY("another user's", stat_of(others_file));
    TRY("by the group", open_and_close(group_file));
    TRY("new file's owner", owner_of_new_file());
    TRY("capability", has_capability(CAP_DAC_OVERRIDE));
}

static void without_file_rights(void)
{
    NEED(effective(file_rights, false) == 0);
}

static const gid_t others_group = OTHER;

#define CHANGE(name, ...)                                                                          \
    static long name(void)                                                                         \
    {                                                                                              \
        return __VA_ARGS__;                                                                        \
    }

// libc changes all threads, the raw call the calling one.
CHANGE(libc_setuid, setuid(NOBODY))
CHANGE(libc_seteuid, seteuid(NOBODY))
CHANGE(libc_setreuid, setreuid(NOBODY, 0))
CHANGE(libc_setresuid, setresuid(-1, NOBODY, -1))
CHANGE(libc_setgid, setgid(OTHER))
CHANGE(libc_setegid, setegid(OTHER))
CHANGE(libc_setregid, setregid(OTHER, OTHER))
CHANGE(libc_setresgid, setresgid(-1, OTHER, -1))
CHANGE(libc_setgroups, setgroups(1, &others_group))
CHANGE(libc_setfsuid, setfsuid(NOBODY))
CHANGE(libc_setfsgid, setfsgid(OTHER))
CHANGE(raw_setuid, syscall(SYS_setuid, NOBODY))
CHANGE(raw_setreuid, syscall(SYS_setreuid, -1, NOBODY))
CHANGE(raw_setresuid, syscall(SYS_setresuid, NOBODY, 0, 0))
CHANGE(raw_setgid, syscall(SYS_setgid, OTHER))
CHANGE(raw_setregid, syscall(SYS_setregid, -1, OTHER))
CHANGE(raw_setresgid, syscall(SYS_setresgid, OTHER, OTHER, OTHER))
CHANGE(raw_setgroups, syscall(SYS_setgroups, 1, &others_group))
CHANGE(raw_capset, effective(file_rights, false))
CHANGE(raw_bounding, prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE))
CHANGE(raw_keepcaps, prctl(PR_SET_KEEPCAPS, 1) ? -1 : syscall(SYS_setuid, NOBODY))
CHANGE(raw_no_fixup,
       prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) ? -1 : syscall(SYS_setuid, NOBODY))

static const struct {
    const char *name;
    long (*change)(void);
    bool groups; // shows only where the right to read everything is not there
} changes[] = {
    {"setuid", libc_setuid, false},         {"seteuid", libc_seteuid, false},
    {"setreuid", libc_setreuid, false},     {"setresuid", libc_setresuid, false},
    {"setgid", libc_setgid, true},          {"setegid", libc_setegid, true},
    {"setregid", libc_setregid, true},      {"setresgid", libc_setresgid, true},
    {"setgroups", libc_setgroups, true},    {"setfsuid", libc_setfsuid, false},
    {"setfsgid", libc_setfsgid, true},      {"raw setuid", raw_setuid, false},
    {"raw setreuid", raw_setreuid, false},  {"raw setresuid", raw_setresuid, false},
    {"raw setgid", raw_setgid, true},       {"raw setregid", raw_setregid, true},
    {"raw setresgid", raw_setresgid, true}, {"raw setgroups", raw_setgroups, true},
    {"capset", raw_capset, false},          {"bounding set", raw_bounding, false},
    {"keepcaps", raw_keepcaps, false},      {"securebits", raw_no_fixup, false},
};

// Ids last for the life of a process: a child for each change.
static void each_change(void (*run)(unsigned which))
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    for (unsigned i = 0; i < COUNT(changes); i++) {
        say("try", "%s", changes[i].name);
        pid_t child = fork();
        NEED(child >= 0);
        if (child == 0) {
            run(i);
            _exit(0);
        }
        wait_and_say("ended", child);
    }
}

static void alone_one(unsigned which)
{
    if (changes[which].groups)
        without_file_rights();
    run_alone(probe, changes[which].change);
}

static void team_one(unsigned which)
{
    run_team(changes[which].groups ? without_file_rights : NULL, probe, changes[which].change,
             which % 2);
}

static void alone(void)
{
    each_change(alone_one);
}

static void threads(void)
{
    each_change(team_one);
}

// The process that was started, not a child of it, gives its rights up.
static void first_process(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    run_alone(probe, raw_capset);
    say("setgroups", "%s", outcome(setgroups(0, NULL)));
    run_alone(probe, libc_setresuid);
    say("setgid", "%s", outcome(seteuid(0) || setgid(OTHER)));
    run_alone(probe, libc_setuid);
    say("back", "%s", outcome(setuid(0)));
    probe();
}

static void first_process_with_threads(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    run_team(NULL, probe, raw_setreuid, 1);
    run_team(NULL, probe, libc_setgroups, 0);
    run_team(without_file_rights, probe, libc_setgid, 1);
    run_team(NULL, probe, libc_setuid, 1);
}

// One thread goes to and fro between two sets of rights, looking after each change; the others look
// all the time.
static volatile bool stop;
static volatile unsigned long others_wrong, others_looked;

static void *looks(void *arg)
{
    unsigned long wrong = 0, looked = 0;
    while (!stop || looked < (unsigned)times) {
        wrong += geteuid() != 0 || getegid() != 0;
        wrong += access(secret, R_OK) != 0;
        wrong += faccessat(AT_FDCWD, secret, R_OK, AT_EACCESS) != 0;
        wrong += open_and_close(secret) != 0;
        wrong += stat_of(others_file) != 0;
        looked++;
    }
    __atomic_add_fetch(&others_wrong, wrong, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&others_looked, looked, __ATOMIC_SEQ_CST);
    return arg;
}

static long to_nobody(void)
{
    return syscall(SYS_setresuid, -1, NOBODY, -1);
}

static long to_root(void)
{
    return syscall(SYS_setresuid, -1, 0, -1);
}

static long fs_nobody(void)
{
    return syscall(SYS_setfsuid, NOBODY) != 0;
}

static long fs_root(void)
{
    return syscall(SYS_setfsuid, 0) != NOBODY;
}

static long caps_off(void)
{
    return effective(file_rights, false);
}

static long caps_on(void)
{
    return effective(file_rights, true);
}

static void *goes_to_and_fro(void *arg)
{
    static const struct {
        const char *name;
        long (*away)(void), (*back)(void);
    } ways[] = {{"setresuid", to_nobody, to_root},
                {"setfsuid", fs_nobody, fs_root},
                {"capset", caps_off, caps_on}};
    for (unsigned i = 0; i < COUNT(ways); i++) {
        struct tally without[5] = {{.name = "without: geteuid"},
                                   {.name = "without: access"},
                                   {.name = "without: open"},
                                   {.name = "without: stat"},
                                   {.name = "without: owner"}};
        struct tally with[5] = {{.name = "with: geteuid"},
                                {.name = "with: access"},
                                {.name = "with: open"},
                                {.name = "with: stat"},
                                {.name = "with: owner"}};
        for (int j = 0; j < 2 * times; j++) {
            struct tally *tally = j % 2 ? with : without;
            NEED((j % 2 ? ways[i].back : ways[i].away)() == 0);
            // Each kind of call comes first once in a while.
            for (int k = 0; k < 5; k++) {
                int which = (j / 2 + k) % 5;
                note(&tally[which],
                     got(which == 0   ? (long)geteuid()
                         : which == 1 ? faccessat(AT_FDCWD, others_file, R_OK, AT_EACCESS)
                         : which == 2 ? open_and_close(others_file)
                         : which == 3 ? stat_of(others_file)
                                      : owner_of_new_file()));
            }
        }
        for (int k = 0; k < 5; k++) {
            tell(ways[i].name, &without[k]);
            tell(ways[i].name, &with[k]);
        }
    }
    return arg;
}

static void to_and_fro(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    say("alone", "%s", "");
    goes_to_and_fro(NULL);
    pthread_t threads[THREADS];
    for (int i = 1; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, i == 1 ? goes_to_and_fro : looks, NULL) == 0);
    NEED(pthread_join(threads[1], NULL) == 0);
    stop = true;
    for (int i = 2; i < THREADS; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
    say("others", "looked %s, wrong %lu", yes(others_looked > 0), others_wrong);
    stop = false;
    others_wrong = 0;
    NEED(pthread_create(&threads[1], NULL, looks, NULL) == 0);
    goes_to_and_fro(NULL);
    stop = true;
    NEED(pthread_join(threads[1], NULL) == 0);
    say("main thread changes", "wrong %lu", others_wrong);
}

// A handler that has other rights while it runs. Whatever call it came in the middle of, or before,
// has its own.
static volatile unsigned long handler_wrong, handled;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    int saved = errno;
    handler_wrong += syscall(SYS_setresuid, -1, NOBODY, -1) != 0;
    for (int i = 0; i < 3; i++) {
        handler_wrong += geteuid() != NOBODY;
        handler_wrong += access(secret, R_OK) != 0; // the real ids are root's
        handler_wrong += open_and_close(secret) != -1 || errno != EACCES;
        handler_wrong += stat_of(others_file) != -1 || errno != EACCES;
    }
    handler_wrong += syscall(SYS_setresuid, -1, 0, -1) != 0;
    handled++;
    errno = saved;
}

static void *interrupted(void *arg)
{
    unsigned long wrong = 0;
    while (handled < (unsigned)times) {
        wrong += geteuid() != 0;
        wrong += open_and_close(secret) != 0;
        wrong += stat_of(others_file) != 0;
        wrong += faccessat(AT_FDCWD, secret, R_OK, AT_EACCESS) != 0;
    }
    say("interrupted", "wrong %lu, in the handler %lu", wrong, handler_wrong);
    return arg;
}

static void handler_rights(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_files();
    handle(SIGALRM, on_alarm, SA_RESTART);
    struct itimerval timer = {{0, 3000}, {0, 3000}}, none = {0};
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    interrupted(NULL);
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_t thread, looker;
    handled = 0;
    NEED(pthread_create(&thread, NULL, interrupted, NULL) == 0);
    NEED(pthread_sigmask(SIG_BLOCK, &alarm, NULL) == 0);
    NEED(pthread_create(&looker, NULL, looks, NULL) == 0);
    NEED(pthread_join(thread, NULL) == 0);
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    stop = true;
    NEED(pthread_join(looker, NULL) == 0);
    say("beside it", "wrong %lu", others_wrong);
}

int main(int argc, char **argv)
{
    static const struct mode modes[] = {
        {"alone", alone, false},
        {"threads", threads, false},
        {"first process", first_process, false},
        {"first process with threads", first_process_with_threads, false},
        {"to and fro", to_and_fro, false},
        {"handler", handler_rights, false},
    };
    return run_modes(argc, argv, modes, COUNT(modes));
}
