// Proves that a call answers for the thread and the process that makes it: ids, names, priorities,
// places and files of threads; children that share memory, files or nothing, at the same time as
// their parent; threads that come and go with rights of their own; filters on system calls.
#include "rights.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/utsname.h>

// ---- What a thread has for itself ----

static volatile pid_t own_tid[THREADS];

static long text_of(const char *path, char *text, int size)
{
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return -1;
    long length = read(fd, text, size - 1);
    NEED(length >= 0 && close(fd) == 0);
    text[length] = '\0';
    return length;
}

static long tid_by_link(void)
{
    char link[64] = "";
    NEED(readlink("/proc/thread-self", link, sizeof(link) - 1) > 0);
    return atoi(strrchr(link, '/') + 1) == gettid();
}

static long name_is_own(void)
{
    char expected[16], name[16], text[32];
    sprintf(expected, "own %d", number);
    NEED(prctl(PR_GET_NAME, name) == 0);
    NEED(text_of("/proc/thread-self/comm", text, sizeof(text)) > 0);
    text[strcspn(text, "\n")] = '\0';
    return !strcmp(name, expected) * 10 + !strcmp(text, expected);
}

static long affinity(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    NEED(syscall(SYS_sched_getaffinity, 0, sizeof(set), &set) > 0);
    return CPU_COUNT(&set) * 10 + !!CPU_ISSET(0, &set);
}

static long where(void)
{
    unsigned cpu = 77;
    NEED(syscall(SYS_getcpu, &cpu, NULL, NULL) == 0);
    return affinity() < 20 ? cpu : 0; // may change, unless there is one only
}

static long io_priority(void)
{
    return syscall(SYS_ioprio_get, 1, 0);
}

static long memory_policy(void)
{
    int mode = -1;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) ? -1 : mode;
}

static long cpu_time_moves(void)
{
    struct timespec before, after;
    struct rusage usage;
    NEED(syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &before) == 0);
    NEED(getrusage(RUSAGE_THREAD, &usage) == 0);
    NEED(syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &after) == 0);
    return after.tv_sec > before.tv_sec ||
           (after.tv_sec == before.tv_sec && after.tv_nsec >= before.tv_nsec);
}

static long robust_list(void)
{
    void *head, *again;
    size_t size;
    NEED(syscall(SYS_get_robust_list, 0, &head, &size) == 0);
    NEED(syscall(SYS_get_robust_list, gettid(), &again, &size) == 0);
    return head == again;
}

static long alternate_stack(void)
{
    stack_t stack;
    NEED(sigaltstack(NULL, &stack) == 0);
    return stack.ss_flags & SS_DISABLE ? 0 : (long)stack.ss_size;
}

static long blocked(void)
{
    sigset_t set;
    NEED(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0);
    return sigismember(&set, SIGUSR1) * 10 + sigismember(&set, SIGRTMIN + 5);
}

static void probe_thread(void)
{
    TRY("gettid", gettid() == own_tid[number]);
    TRY("getpid", getpid() == own_tid[0]);
    TRY("thread-self", tid_by_link());
    TRY("name", name_is_own());
    TRY("affinity", affinity());
    TRY("getcpu", where());
    TRY("nice", getpriority(PRIO_PROCESS, 0));
    TRY("policy", sched_getscheduler(0));
    TRY("I/O priority", io_priority());
    TRY("memory policy", memory_policy());
    TRY("timer slack", prctl(PR_GET_TIMERSLACK) > 1000 ? 1 : prctl(PR_GET_TIMERSLACK));
    TRY("CPU time", cpu_time_moves());
    TRY("robust list", robust_list());
    TRY("stack for signals", alternate_stack());
    TRY("signal mask", blocked());
}

static void take_name(void)
{
    char name[16];
    own_tid[number] = gettid();
    sprintf(name, "own %d", number);
    NEED(prctl(PR_SET_NAME, name) == 0);
}

static long become_different(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sched_param none = {0};
    unsigned long node = 1;
    sigset_t set;
    cpu_set_t cpus;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CPU_ZERO(&cpus);
    CPU_SET(number % 2, &cpus);
    NEED(sigaltstack(&alternate, NULL) == 0 && pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    NEED(prctl(PR_SET_TIMERSLACK, 100) == 0);
    NEED(sched_setscheduler(0, SCHED_BATCH, &none) == 0);
    NEED(setpriority(PRIO_PROCESS, 0, 5) == 0);
    NEED(syscall(SYS_ioprio_set, 1, 0, 3 << 13) == 0);
    if (syscall(SYS_set_mempolicy, 1, &node, 8) && errno != ENOSYS)
        return -1;
    return sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void own_state(void)
{
    cpu_set_t set;
    NEED(sched_getaffinity(0, sizeof(set), &set) == 0);
    if (missing(!CPU_ISSET(0, &set) || !CPU_ISSET(1, &set), "CPUs 0 and 1"))
        return;
    run_team(take_name, probe_thread, become_different, 1);
    run_team(take_name, probe_thread, become_different, 0);
}

// ---- Children, all at once with the threads of their parent ----

// The answers a child got that are not its own. In a child that shares memory and thread pointer
// with its parent nothing may touch what belongs to the C library, so these calls are bare.
static long bare(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

struct child {
    pid_t parent, self; // self: what clone() wrote for the parent
    volatile unsigned long wrong, done;
    bool own_rights, own_directory, own_files, own_name;
    char stack[16384] __attribute__((aligned(16)));
};

static volatile bool stop;
static volatile unsigned long parents_wrong;
static char secret[300], there[300];

static int lives(void *arg)
{
    struct child *child = arg;
    struct stat status;
    pid_t self = (pid_t)bare(SYS_getpid, 0, 0, 0);
    child->wrong += self == child->parent || bare(SYS_gettid, 0, 0, 0) != self;
    for (int i = 0; i < 3 * times; i++) {
        if (i == times) { // and becomes different
            if (child->own_directory)
                child->wrong += bare(SYS_chdir, (long)there, 0, 0) != 0;
            if (child->own_files)
                child->wrong += bare(SYS_close, 60, 0, 0) != 0;
            if (child->own_rights)
                child->wrong += bare(SYS_setresuid, NOBODY, NOBODY, NOBODY) != 0;
        }
        bool different = i >= times, nobody = different && child->own_rights;
        child->wrong += bare(SYS_getpid, 0, 0, 0) != self;
        child->wrong += bare(SYS_getppid, 0, 0, 0) != child->parent;
        child->wrong += bare(SYS_gettid, 0, 0, 0) != self;
        child->wrong += bare(SYS_getuid, 0, 0, 0) != (nobody ? NOBODY : 0);
        child->wrong += bare(SYS_access, (long)secret, R_OK, 0) != (nobody ? -EACCES : 0);
        child->wrong += bare(SYS_access, (long)"mark", F_OK, 0) !=
                        (different && child->own_directory ? 0 : -ENOENT);
        child->wrong +=
            bare(SYS_lseek, 60, 0, SEEK_CUR) != (different && child->own_files ? -EBADF : 5);
        child->wrong +=
            bare(SYS_fstat, 60, (long)&status, 0) != (different && child->own_files ? -EBADF : 0);
    }
    child->done++;
    return 0;
}

static void *parent_lives(void *arg)
{
    struct stat status;
    pid_t self = getpid(), tid = gettid(), parent = getppid();
    unsigned long wrong = 0;
    do {
        wrong += getpid() != self || gettid() != tid || getppid() != parent;
        wrong += getuid() != 0 || access(secret, R_OK) != 0;
        wrong += access("mark", F_OK) != -1;
        wrong += lseek(60, 0, SEEK_CUR) != 5 || fstat(60, &status) != 0;
    } while (!stop);
    __atomic_add_fetch(&parents_wrong, wrong, __ATOMIC_SEQ_CST);
    return arg;
}

static void children(void)
{
    static const struct {
        const char *name;
        int flags;
    } kinds[] = {
        {"nothing shared", 0},
        {"memory", CLONE_VM},
        {"memory, parent waits", CLONE_VM | CLONE_VFORK},
        {"memory and files", CLONE_VM | CLONE_FILES},
        {"memory and directory", CLONE_VM | CLONE_FS},
        {"memory, directory and files, parent waits",
         CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_VFORK},
        {"directory", CLONE_FS},
    };
    enum { AT_ONCE = 2 };
    static struct child child[AT_ONCE];
    if (missing(geteuid() != 0, "root"))
        return;
    make_directory("secret", 0, 0, 0700);
    make_file("secret/file", "x", 0, 0, 0600);
    make_directory("there", 0, 0, 0755);
    make_file("there/mark", "x", 0, 0, 0644);
    make_file("file", "0123456789", 0, 0, 0644);
    in_directory(secret, "secret/file");
    in_directory(there, "there");
    char path[300];
    NEED(chdir(directory) == 0);
    int fd = open(in_directory(path, "file"), O_RDONLY);
    NEED(dup2(fd, 60) == 60 && lseek(60, 5, SEEK_SET) == 5);
    warm();
    for (int with_threads = 0; with_threads < 2; with_threads++) {
        pthread_t threads[2];
        stop = false;
        for (int i = 0; i < 2 && with_threads; i++)
            NEED(pthread_create(&threads[i], NULL, parent_lives, NULL) == 0);
        for (unsigned i = 0; i < COUNT(kinds); i++) {
            unsigned long wrong = 0, done = 0;
            pid_t pids[AT_ONCE];
            for (int j = 0; j < AT_ONCE; j++) {
                child[j].parent = getpid();
                child[j].wrong = child[j].done = 0;
                child[j].own_rights = j == 0;
                child[j].own_directory = !(kinds[i].flags & CLONE_FS);
                child[j].own_files = !(kinds[i].flags & CLONE_FILES);
                pids[j] = clone(lives, child[j].stack + sizeof(child[j].stack),
                                kinds[i].flags | SIGCHLD, &child[j]);
                NEED(pids[j] > 0);
            }
            for (int j = 0; j < AT_ONCE; j++) {
                int status;
                NEED(waitpid(pids[j], &status, 0) == pids[j]);
                wrong += (kinds[i].flags & CLONE_VM ? child[j].wrong : 0) + (unsigned)status;
                done += child[j].done;
            }
            say(kinds[i].name, "threads %d, wrong %lu, done %lu", 2 * with_threads, wrong, done);
        }
        stop = true;
        for (int i = 0; i < 2 && with_threads; i++)
            NEED(pthread_join(threads[i], NULL) == 0);
        parent_lives(NULL);
        say("parent", "wrong %lu", parents_wrong);
    }
}

// ---- Threads made without the C library, which share less than others ----

static volatile int bare_ends; // cleared by Linux when the thread has ended

static bool host_is(const char *expected)
{
    struct utsname name;
    unsigned i = 0;
    if (bare(SYS_uname, (long)&name, 0, 0) != 0)
        return false;
    while (expected[i] && name.nodename[i] == expected[i])
        i++;
    return !expected[i] && !name.nodename[i];
}

static int bare_thread(void *arg)
{
    struct child *child = arg;
    for (int i = 0; i < 3 * times; i++) {
        if (i == times) {
            if (child->own_directory)
                child->wrong += bare(SYS_chdir, (long)there, 0, 0) != 0;
            if (child->own_files)
                child->wrong += bare(SYS_close, 60, 0, 0) != 0;
            if (child->own_name)
                child->wrong += bare(SYS_sethostname, (long)"second", 6, 0) != 0;
        }
        bool different = i >= times;
        child->wrong += bare(SYS_getpid, 0, 0, 0) != child->parent;
        child->wrong += bare(SYS_access, (long)"mark", F_OK, 0) !=
                        (different && child->own_directory ? 0 : -ENOENT);
        child->wrong +=
            bare(SYS_lseek, 60, 0, SEEK_CUR) != (different && child->own_files ? -EBADF : 5);
        child->wrong += !host_is(different && child->own_name ? "second" : "first");
    }
    child->done++;
    return 0;
}

static void bare_threads(void)
{
    static const struct {
        const char *name;
        int flags;
    } kinds[] = {
        {"all shared", CLONE_FS | CLONE_FILES},
        {"own directory", CLONE_FILES},
        {"own descriptors", CLONE_FS},
        {"own directory and descriptors", 0},
        {"own host name", CLONE_FS | CLONE_FILES | CLONE_NEWUTS},
        {"own network", CLONE_FS | CLONE_FILES | CLONE_NEWNET},
    };
    static struct child child;
    char path[300];
    if (missing(geteuid() != 0, "root") || missing(unshare(CLONE_NEWUTS) != 0, "UTS namespaces"))
        return;
    NEED(sethostname("first", 5) == 0);
    make_directory("there", 0, 0, 0755);
    make_file("there/mark", "x", 0, 0, 0644);
    make_file("file", "0123456789", 0, 0, 0644);
    in_directory(there, "there");
    NEED(chdir(directory) == 0);
    int fd = open(in_directory(path, "file"), O_RDONLY);
    NEED(dup2(fd, 60) == 60 && lseek(60, 5, SEEK_SET) == 5);
    warm();
    for (unsigned i = 0; i < COUNT(kinds); i++) {
        int flags = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID |
                    kinds[i].flags;
        unsigned long wrong = 0;
        child.parent = getpid();
        child.wrong = child.done = 0;
        child.own_directory = !(flags & CLONE_FS);
        child.own_files = !(flags & CLONE_FILES);
        child.own_name = flags & CLONE_NEWUTS;
        bare_ends = 1;
        NEED(clone(bare_thread, child.stack + sizeof(child.stack), flags, &child, NULL, NULL,
                   &bare_ends) > 0);
        do {
            wrong += access("mark", F_OK) != -1;
            wrong += lseek(60, 0, SEEK_CUR) != 5;
            wrong += !host_is("first");
        } while (bare_ends);
        say(kinds[i].name, "wrong %lu, in the thread %lu, done %lu", wrong, child.wrong,
            child.done);
    }
}

// ---- vfork and its exec ----

static void vforks(void)
{
    for (volatile int i = 0; i < times / 3; i++) {
        volatile pid_t self = getpid(), parent = 0, own = 0;
        volatile unsigned long wrong = 0;
        pid_t child = vfork();
        if (child == 0) {
            own = getpid();
            for (int j = 0; j < times; j++)
                wrong += getpid() != own || getppid() != self || gettid() != own;
            parent = getppid();
            _exit(5);
        }
        int status;
        NEED(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
        if (own != child || parent != self || wrong || getpid() != self || gettid() != self)
            say("vfork", "wrong %lu, child %d, parent %d, after %d", wrong, own == child,
                parent == self, getpid() == self);
    }
    say("vfork", "done");
}

// ---- Threads with ids of their own make threads, and end ----

static long ids(void)
{
    return geteuid() * 10L + (access(secret, R_OK) == 0) +
           2 * (faccessat(AT_FDCWD, secret, R_OK, AT_EACCESS) == 0);
}

static void *inherits(void *arg)
{
    for (int i = 0; i < times; i++)
        note(arg, ids());
    return NULL;
}

static void *becomes_nobody(void *arg)
{
    pthread_t threads[2];
    struct tally *tally = arg;
    warm();
    NEED(syscall(SYS_setresuid, -1, NOBODY, NOBODY) == 0);
    // What it makes while it is nobody is nobody's.
    for (int i = 0; i < 2; i++)
        NEED(pthread_create(&threads[i], NULL, inherits, tally + i) == 0);
    inherits(tally + 2);
    for (int i = 0; i < 2; i++)
        NEED(pthread_join(threads[i], NULL) == 0);
    return NULL;
}

static void inheritance(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    make_directory("secret", 0, 0, 0700);
    make_file("secret/file", "x", 0, 0, 0600);
    in_directory(secret, "secret/file");
    for (int round = 0; round < 4; round++) {
        struct tally tally[5] = {{.name = "made by nobody"},
                                 {.name = "made by nobody"},
                                 {.name = "nobody"},
                                 {.name = "beside it"},
                                 {.name = "made by root afterwards"}};
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, becomes_nobody, tally) == 0);
        inherits(&tally[3]);
        NEED(pthread_join(thread, NULL) == 0);
        NEED(pthread_create(&thread, NULL, inherits, &tally[4]) == 0);
        NEED(pthread_join(thread, NULL) == 0);
        for (int i = 0; i < 5; i++)
            tell("ids", &tally[i]);
    }
}

// A thread that is nobody, and not the first, executes a program: that is nobody's.
static void *executes(void *arg)
{
    warm();
    NEED(syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) == 0);
    execl("/usr/bin/id", "id", "-u", (char *)NULL);
    say("exec", "%s", error_name(errno));
    return arg;
}

static void *calls(void *arg)
{
    for (;;)
        getppid();
    return arg;
}

static void exec_from_thread(void)
{
    if (missing(geteuid() != 0, "root"))
        return;
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            NEED(pthread_create(&thread, NULL, calls, NULL) == 0);
            NEED(pthread_create(&thread, NULL, executes, NULL) == 0);
            calls(NULL);
        }
        wait_and_say("exec", child);
    }
}

// ---- All end together, in the middle of their calls ----

static void *ends_all(void *arg)
{
    warm();
    exit(*(int *)arg);
}

static void endings(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t threads[THREADS];
            int status = 40 + i;
            for (int j = 0; j < THREADS - 1; j++)
                NEED(pthread_create(&threads[j], NULL, calls, NULL) == 0);
            if (i % 4 == 0)
                ends_all(&status);
            NEED(pthread_create(&threads[THREADS - 1], NULL, ends_all, &status) == 0);
            if (i % 4 == 1)
                calls(NULL);
            if (i % 4 == 2)
                pthread_exit(NULL);
            NEED(pthread_join(threads[THREADS - 1], NULL) == 0);
        }
        wait_and_say("ended", child);
    }
}

// ---- A filter on system calls: no call after it may get around it ----

static long threads_of_process(void)
{
    char text[4096];
    NEED(text_of("/proc/self/status", text, sizeof(text)) > 0);
    return atoi(strstr(text, "Threads:") + 8);
}

static void probe_filtered(void)
{
    struct stat status;
    TRY("getppid", getppid() > 0);
    TRY("getuid", syscall(SYS_getuid));
    TRY("stat", syscall(SYS_stat, "/", &status));
    TRY("getcwd", syscall(SYS_getcwd, secret, sizeof(secret)) > 0 ? 0 : -1);
    TRY("lseek", lseek(60, 0, SEEK_CUR));
}

static long filter(void)
{
#define FORBID(nr, error)                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),                                                 \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        FORBID(SYS_getppid, EPERM),
        FORBID(SYS_getuid, EDOM),
        FORBID(SYS_stat, ENOTTY),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = COUNT(code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void *probes(void *arg)
{
    report = arg;
    probe_filtered();
    report = NULL;
    return NULL;
}

static void *ends_alone(void *arg)
{
    warm();
    return arg;
}

static void filtered(void)
{
    pthread_t thread;
    pid_t child;
    make_file("file", "0123456789", 0, 0, 0644);
    char path[300];
    int fd = open(in_directory(path, "file"), O_RDONLY);
    NEED(dup2(fd, 60) == 60);
    // First in a child, then in the process itself, when it has had threads.
    child = fork();
    if (child == 0) {
        run_alone(probe_filtered, filter);
        _exit(0);
    }
    wait_and_say("child", child);
    NEED(pthread_create(&thread, NULL, ends_alone, NULL) == 0);
    NEED(pthread_join(thread, NULL) == 0);
    run_alone(probe_filtered, filter);
    static struct report reports[2];
    NEED(pthread_create(&thread, NULL, probes, &reports[0]) == 0);
    probes(&reports[1]);
    NEED(pthread_join(thread, NULL) == 0);
    tell_report("thread", &reports[0]);
    tell_report("beside it", &reports[1]);
    child = fork();
    if (child == 0) {
        probe_filtered();
        _exit(0);
    }
    wait_and_say("child", child);
}

// How many threads the process has is there for all to see.
static void visible_threads(void)
{
    warm();
    TRY("threads of the process", threads_of_process());
    NEED(filter() == 0);
    TRY("under a filter", threads_of_process());
}

int main(int argc, char **argv)
{
    static const struct mode modes[] = {
        {"own state", own_state, false},
        {"children", children, false},
        {"bare threads", bare_threads, false},
        {"vfork", vforks, false},
        {"inheritance", inheritance, false},
        {"exec from a thread", exec_from_thread, false},
        {"endings", endings, false},
        {"filter", filtered, false},
        {"visible threads", visible_threads, true},
    };
    return run_modes(argc, argv, modes, COUNT(modes));
}
