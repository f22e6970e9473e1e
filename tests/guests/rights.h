// What the rights_*.c guests share. Each makes the same calls many times before and after it
// changes what they may do or see, and tells every answer it got with its count: an answer given
// with the rights or the view of somebody else, or with those of a moment ago, shows as a second
// line.
#ifndef RIGHTS_H
#define RIGHTS_H

#include "guest.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { THREADS = 4, NOBODY = 65534, OTHER = 12345 };

static int times = 60; // how often each call is made

// Where the guest may make files; others can enter it.
static char directory[256];

struct tally {
    const char *name;
    long value[6]; // a result, or a negative errno
    unsigned count[6];
    unsigned kinds;
};

// What one thread has got. Threads note, and the main thread tells when all are through.
struct report {
    struct tally line[24];
    unsigned used;
};

static __thread struct report *report;

static inline void note(struct tally *tally, long value)
{
    unsigned i = 0;
    while (i < tally->kinds && tally->value[i] != value)
        i++;
    if (i == COUNT(tally->value))
        i--;
    else if (i == tally->kinds)
        tally->value[tally->kinds++] = value;
    tally->count[i]++;
}

static inline void tell(const char *who, const struct tally *tally)
{
    char text[400] = "";
    for (unsigned i = 0, used = 0; i < tally->kinds; i++) {
        if (tally->value[i] < 0)
            used += sprintf(text + used, " %s", error_name(-(int)tally->value[i]));
        else
            used += sprintf(text + used, " %ld", tally->value[i]);
        used += sprintf(text + used, " x %u", tally->count[i]);
    }
    say(who, "%s:%s", tally->name, text);
}

static inline void tell_report(const char *who, const struct report *what)
{
    for (unsigned i = 0; i < what->used; i++)
        tell(who, &what->line[i]);
}

static inline long got(long result)
{
    return result == -1 ? -errno : result;
}

// Where to count: in the thread's report, or in *own, which the caller tells.
static inline struct tally *tally_for(struct tally *own, const char *what)
{
    struct tally *tally = own;
    if (report) {
        NEED(report->used < COUNT(report->line));
        tally = &report->line[report->used++];
    }
    tally->name = what;
    return tally;
}

// Evaluate an expression many times and tell what came of it.
#define TRY(what, ...)                                                                             \
    do {                                                                                           \
        struct tally own_ = {0}, *tally_ = tally_for(&own_, what);                                 \
        for (int i_ = 0; i_ < times; i_++)                                                         \
            note(tally_, got(__VA_ARGS__));                                                        \
        if (!report)                                                                               \
            tell("  got", tally_);                                                                 \
    } while (0)

// Cheap calls in a hot loop, so that whoever answers such calls is awake and knows their places.
static inline void warm(void)
{
    struct stat status;
    int fd = open("/bin/sh", O_RDONLY);
    NEED(fd >= 0);
    for (int i = 0; i < 2 * times; i++) {
        NEED(getppid() >= 0);
        getuid();
        NEED(stat("/", &status) == 0);
        NEED(lseek(fd, i, SEEK_SET) == i);
        NEED(fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
    }
    NEED(close(fd) == 0);
}

static inline long open_and_close(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return -1;
    NEED(close(fd) == 0);
    return 0;
}

static inline long stat_of(const char *path)
{
    struct stat status;
    return stat(path, &status);
}

static inline const char *in_directory(char path[300], const char *name)
{
    snprintf(path, 300, "%s/%s", directory, name);
    return path;
}

// A file with this content, owner and mode, whether it was there or not.
static inline void make_file(const char *name, const char *content, uid_t uid, gid_t gid, int mode)
{
    char path[300];
    int fd = open(in_directory(path, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    NEED(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
    NEED((geteuid() || fchown(fd, uid, gid) == 0) && fchmod(fd, mode) == 0 && close(fd) == 0);
}

static inline void make_directory(const char *name, uid_t uid, gid_t gid, int mode)
{
    char path[300];
    NEED(mkdir(in_directory(path, name), 0700) == 0 || errno == EEXIST);
    NEED(chmod(path, mode) == 0 && (geteuid() || chown(path, uid, gid) == 0));
}

// Take capabilities out of the effective set of the calling thread, or put them back.
static inline long effective(uint64_t capabilities, bool there)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    NEED(syscall(SYS_capget, &header, data) == 0);
    for (int i = 0; i < 2; i++) {
        uint32_t some = (uint32_t)(capabilities >> 32 * i);
        data[i].effective = there ? data[i].effective | some : data[i].effective & ~some;
    }
    return syscall(SYS_capset, &header, data);
}

#define CAP(name) (1ULL << CAP_##name)
static const uint64_t file_rights = CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER);

// Wait until all threads of a team are here, making calls.
static inline void meet(void)
{
    static unsigned arrived, met;
    unsigned before = __atomic_load_n(&met, __ATOMIC_SEQ_CST);
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == THREADS) {
        arrived = 0;
        __atomic_add_fetch(&met, 1, __ATOMIC_SEQ_CST);
    }
    while (__atomic_load_n(&met, __ATOMIC_SEQ_CST) == before) {
        NEED(getppid() >= 0);
        sched_yield();
    }
}

// Run a function in all threads of a team.
static inline void all_run(void *(*run)(void *))
{
    pthread_t threads[THREADS];
    for (long i = 1; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    run(NULL);
    for (int i = 1; i < THREADS; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
}

// Threads that probe at the same time, before and after one of them makes a change. While it does,
// the others are in the middle of their calls.
struct team {
    void (*prepare)(void); // in every thread; may be NULL
    void (*probe)(void);
    long (*change)(void);
    int changer; // 0: the main thread
    pthread_barrier_t barrier;
    volatile bool changed;
    long result;
    struct report reports[2][THREADS];
};

static struct team team;

static __thread int number; // of the thread in its team; the main thread is 0

static inline void *team_member(void *arg)
{
    number = (int)(long)arg;
    if (team.prepare)
        team.prepare();
    pthread_barrier_wait(&team.barrier);
    report = &team.reports[0][number];
    team.probe();
    report = NULL;
    pthread_barrier_wait(&team.barrier);
    if (number == team.changer) {
        for (int i = 0; i < times; i++)
            getppid();
        team.result = got(team.change());
        team.changed = true;
    } else {
        while (!team.changed)
            NEED(getppid() >= 0);
    }
    pthread_barrier_wait(&team.barrier);
    report = &team.reports[1][number];
    team.probe();
    report = NULL;
    return NULL;
}

static inline void run_team(void (*prepare)(void), void (*probe)(void), long (*change)(void),
                            int changer)
{
    team = (struct team){.prepare = prepare, .probe = probe, .change = change, .changer = changer};
    pthread_barrier_init(&team.barrier, NULL, THREADS);
    all_run(team_member);
    for (int i = 0; i < THREADS; i++) {
        char who[40];
        sprintf(who, "thread %d before", i);
        tell_report(who, &team.reports[0][i]);
        if (i == changer)
            say("change", "%s", team.result < 0 ? error_name(-(int)team.result) : "ok");
        sprintf(who, "thread %d after", i);
        tell_report(who, &team.reports[1][i]);
    }
}

// The same as run_team() in the only thread.
static inline void run_alone(void (*probe)(void), long (*change)(void))
{
    warm();
    probe();
    say("change", "%s", outcome(change()));
    probe();
}

struct mode {
    const char *name;
    void (*run)(void);
    bool asked; // runs only when asked for by name
};

static inline int remove_one(const char *path, const struct stat *status, int kind,
                             struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    return remove(path);
}

// Arguments: a mode, a directory and how often to make each call. Without any, each mode runs in a
// child of its own, briefly.
static inline int run_modes(int argc, char **argv, const struct mode *modes, unsigned count)
{
    if (argc > 2) {
        snprintf(directory, sizeof(directory), "%s", argv[2]);
        times = argc > 3 ? atoi(argv[3]) : times;
        for (unsigned i = 0; i < count; i++)
            if (!strcmp(modes[i].name, argv[1])) {
                modes[i].run();
                return 0;
            }
        say("unknown mode", "%s", argv[1]);
        return 97;
    }
    times = 12;
    strcpy(directory, "/tmp/rights-guest-XXXXXX");
    NEED(mkdtemp(directory) && chmod(directory, 0755) == 0);
    for (unsigned i = 0; i < count; i++) {
        if (modes[i].asked)
            continue;
        pid_t child = fork();
        NEED(child >= 0);
        if (child == 0) {
            modes[i].run();
            _exit(0);
        }
        wait_and_say(modes[i].name, child);
    }
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

// What a mode says if it cannot run here; the test skips.
static inline bool missing(bool condition, const char *what)
{
    if (condition)
        say("missing", "%s", what);
    return condition;
}

#endif
