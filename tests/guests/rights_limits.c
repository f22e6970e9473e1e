// Proves that limits hold for the very next call, whoever has set them, and that the signal that a
// call raises goes to the thread that made the call, before that goes on.
#include "rights.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

static long limit(int which, rlim_t value)
{
    struct rlimit limits;
    NEED(getrlimit(which, &limits) == 0);
    limits.rlim_cur = value;
    return setrlimit(which, &limits);
}

// The limit that the next one changes; a change takes no argument.
static int limited;
static rlim_t limit_value;

static long set_limit(void)
{
    return limit(limited, limit_value);
}

static long limit_by_prlimit(void)
{
    struct rlimit limits = {limit_value, RLIM_INFINITY};
    return prlimit(getpid(), limited, &limits, NULL);
}

static long limit_by_child(void)
{
    int status;
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        struct rlimit limits;
        NEED(prlimit(getppid(), limited, NULL, &limits) == 0);
        limits.rlim_cur = limit_value;
        _exit(prlimit(getppid(), limited, &limits, NULL) ? 1 : 0);
    }
    NEED(waitpid(child, &status, 0) == child);
    return status ? -1 : 0;
}

// ---- Signals that a call raises ----

static __thread int file;
static __thread volatile int signals_here;
static __thread volatile bool in_call;
static volatile int outside, others;
static int expected_signal;

static void on_raised(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    signals_here++;
    outside += !in_call;
    others += sig != expected_signal;
}

// The signals that one call brought, and its result: they are there when it returns.
static long with_signals(long result)
{
    static __thread int before;
    int new = signals_here - before;
    before = signals_here;
    return result >= 0 ? result * 10 + new : errno * 1000 + new;
}

#define CALL(call)                                                                                 \
    ({                                                                                             \
        in_call = true;                                                                            \
        long result_ = (call);                                                                     \
        in_call = false;                                                                           \
        with_signals(result_);                                                                     \
    })

enum { LIMIT = 1 << 20 }; // more than is said on standard output, which may be a file

static void open_own_file(void)
{
    char name[40], path[300];
    sprintf(name, "limited%d", gettid());
    file = open(in_directory(path, name), O_RDWR | O_CREAT | O_TRUNC, 0600);
    NEED(file >= 0 && unlink(path) == 0 && ftruncate(file, LIMIT) == 0);
}

static long seek_and_write(off_t where, size_t size)
{
    static const char data[100];
    NEED(lseek(file, where, SEEK_SET) == where);
    return write(file, data, size);
}

static long gather(off_t where)
{
    static char data[300];
    struct iovec parts[2] = {{data, 100}, {data, 300}};
    return pwritev(file, parts, 2, where);
}

static void probe_size(void)
{
    if (!file)
        open_own_file();
    TRY("inside", CALL(seek_and_write(0, 10)));
    TRY("across", CALL(seek_and_write(LIMIT - 10, 20)));
    TRY("beyond", CALL(seek_and_write(LIMIT, 20)));
    TRY("pwrite beyond", CALL(pwrite(file, "x", 1, 3 * LIMIT)));
    TRY("pwritev across", CALL(gather(LIMIT - 200)));
    TRY("pwritev beyond", CALL(gather(LIMIT)));
    TRY("ftruncate", CALL(ftruncate(file, LIMIT + 1)));
    TRY("fallocate", CALL(fallocate(file, 0, 0, 2 * LIMIT)));
    TRY("back", ftruncate(file, LIMIT));
    TRY("descriptors", fcntl(file, F_GETFD));
}

static void say_signals(void)
{
    say("signals", "outside of the call %d, others %d", outside, others);
}

static void file_size(void)
{
    limited = RLIMIT_FSIZE;
    limit_value = LIMIT;
    expected_signal = SIGXFSZ;
    handle(SIGXFSZ, on_raised, 0);
    static const struct {
        const char *name;
        long (*change)(void);
    } changes[] = {
        {"setrlimit", set_limit}, {"prlimit", limit_by_prlimit}, {"from a child", limit_by_child}};
    for (unsigned i = 0; i < COUNT(changes); i++)
        for (int how = 0; how < 2; how++) {
            say("try", "%s, %s", changes[i].name, how ? "threads" : "alone");
            pid_t child = fork();
            NEED(child >= 0);
            if (child == 0) {
                if (how)
                    run_team(NULL, probe_size, changes[i].change, i % 2);
                else
                    run_alone(probe_size, changes[i].change);
                say_signals();
                _exit(0);
            }
            wait_and_say("ended", child);
        }
    run_team(NULL, probe_size, set_limit, 1);
    say_signals();
    signal(SIGXFSZ, SIG_IGN);
    TRY("ignored", CALL(seek_and_write(LIMIT, 1)));
    limit_value = 2 * LIMIT;
    NEED(set_limit() == 0);
    TRY("higher", seek_and_write(LIMIT, 1));
    TRY("higher", seek_and_write(2 * LIMIT, 1));
    limit(RLIMIT_CORE, 0);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGXFSZ, SIG_DFL);
            for (int j = 0; j < times; j++)
                NEED(seek_and_write(0, 1) == 1);
            seek_and_write(2 * LIMIT, 1);
            _exit(1);
        }
        wait_and_say("default", child);
    }
}

// ---- Pipes and sockets without a reader ----

static __thread int broken, sockets[2];

static void probe_broken(void)
{
    if (!broken) {
        int ends[2];
        NEED(pipe(ends) == 0 && close(ends[0]) == 0);
        broken = ends[1];
        NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && close(sockets[1]) == 0);
    }
    struct iovec part = {"x", 1};
    TRY("write", CALL(write(broken, "x", 1)));
    TRY("writev", CALL(writev(broken, &part, 1)));
    TRY("nothing", CALL(write(broken, "x", 0)));
    TRY("send", CALL(send(sockets[0], "x", 1, 0)));
    TRY("send, MSG_NOSIGNAL", send(sockets[0], "x", 1, MSG_NOSIGNAL));
}

static long ignore_pipe(void)
{
    return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0;
}

static long block_pipe(void)
{
    sigset_t pipe_signal, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    NEED(sigprocmask(SIG_BLOCK, &pipe_signal, NULL) == 0);
    for (int i = 0; i < times; i++) {
        struct timespec none = {0};
        NEED(write(broken, "x", 1) == -1 && errno == EPIPE);
        NEED(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
        NEED(sigtimedwait(&pipe_signal, NULL, &none) == SIGPIPE);
    }
    return sigprocmask(SIG_UNBLOCK, &pipe_signal, NULL);
}

static void broken_pipe(void)
{
    expected_signal = SIGPIPE;
    handle(SIGPIPE, on_raised, SA_RESTART);
    run_alone(probe_broken, block_pipe);
    run_team(NULL, probe_broken, ignore_pipe, 2);
    say_signals();
    pid_t child = fork();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        (void)!write(broken, "x", 1);
        _exit(1);
    }
    wait_and_say("default", child);
}

// ---- Numbers of descriptors, sizes of memory ----

static long highest(void)
{
    int fds[128], count = 0;
    while (count < 128 && (fds[count] = dup(1)) >= 0)
        count++;
    long result = count ? fds[count - 1] : -errno;
    for (int i = 0; i < count; i++)
        NEED(close(fds[i]) == 0);
    return result;
}

static long map_a_page(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -1;
    *(volatile char *)page = 1;
    NEED(munmap(page, PAGE) == 0);
    return 0;
}

static long lock_a_page(void)
{
    static char page[PAGE] __attribute__((aligned(4096)));
    long result = mlock(page, PAGE);
    if (result == 0)
        NEED(munlock(page, PAGE) == 0);
    return result;
}

static void probe_numbers(void)
{
    TRY("dup", dup2(1, 70) == 70 ? 0 : -1);
    TRY("F_DUPFD", fcntl(1, F_DUPFD, 70) < 0 ? -1 : 0);
    close_range(70, 1000, 0);
    TRY("highest", highest());
    TRY("open", open_and_close("/"));
    TRY("mmap", map_a_page());
    TRY("mlock", lock_a_page());
    TRY("getrlimit", limited == RLIMIT_NOFILE ? sysconf(_SC_OPEN_MAX) : 0);
}

static long give_up_rights(void)
{
    return effective(CAP(IPC_LOCK) | CAP(SYS_RESOURCE), false);
}

static void numbers(void)
{
    static const struct {
        const char *name;
        int which;
        rlim_t value;
    } limits[] = {{"RLIMIT_NOFILE", RLIMIT_NOFILE, 64},
                  {"RLIMIT_NOFILE 0", RLIMIT_NOFILE, 0},
                  {"RLIMIT_AS", RLIMIT_AS, PAGE},
                  {"RLIMIT_DATA", RLIMIT_DATA, PAGE},
                  {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, 0}};
    give_up_rights();
    limit(RLIMIT_NOFILE, 256);
    close_range(3, 1000, 0);
    for (unsigned i = 0; i < COUNT(limits); i++) {
        limited = limits[i].which;
        limit_value = limits[i].value;
        say("try", "%s", limits[i].name);
        pid_t child = fork();
        NEED(child >= 0);
        if (child == 0) {
            run_alone(probe_numbers, set_limit);
            _exit(0);
        }
        wait_and_say("ended", child);
    }
}

int main(int argc, char **argv)
{
    static const struct mode modes[] = {
        {"file size", file_size, false},
        {"broken pipe", broken_pipe, false},
        {"numbers", numbers, false},
    };
    return run_modes(argc, argv, modes, COUNT(modes));
}
