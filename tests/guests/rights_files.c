// Proves that a descriptor is what it is at the moment of the call, whoever changed it last:
// another thread, another process that shares the table, or nobody, since the table is the thread's
// own; and that a read of what has become a pipe waits, and is interrupted, as if it had never been
// a file.
#include "rights.h"

#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

enum { FIRST = 50, SECOND = 51, USED = 60 }; // numbers that nothing else takes

static int open_at(const char *name, int number, int flags)
{
    char path[300];
    int fd = open(in_directory(path, name), flags);
    NEED(fd >= 0 && dup2(fd, number) == number && close(fd) == 0);
    return number;
}

static void make_files(void)
{
    umask(0);
    make_file("a", "aaaaaaaaaa", 0, 0, 0666);
    make_file("b", "bbbbb", 0, 0, 0666);
    open_at("a", FIRST, O_RDWR);
    open_at("b", SECOND, O_RDWR);
    NEED(dup2(FIRST, USED) == USED);
}

static long byte_of(int fd)
{
    char byte;
    long result = pread(fd, &byte, 1, 0);
    return result == 1 ? byte : result ? -1 : 0;
}

static long size_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) ? -1 : status.st_size;
}

static long flags_of(int fd)
{
    return fcntl(fd, F_GETFD);
}

static long mapped_byte_of(int fd)
{
    char *map = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return -1;
    long byte = *map;
    NEED(munmap(map, PAGE) == 0);
    return byte;
}

static void probe(void)
{
    TRY("pread", byte_of(USED));
    TRY("fstat", size_of(USED));
    TRY("mmap", mapped_byte_of(USED));
    TRY("fcntl", flags_of(USED));
    TRY("seek", lseek(USED, 0, SEEK_END));
    TRY("second", byte_of(SECOND));
}

static long replace(void)
{
    return dup2(SECOND, USED) == USED ? 0 : -1;
}

static long close_it(void)
{
    return close(USED);
}

static long close_both(void)
{
    return close_range(SECOND, USED, 0);
}

static long close_with_own_table(void)
{
    return close_range(SECOND, USED, CLOSE_RANGE_UNSHARE);
}

static long own_table_replace(void)
{
    return unshare(CLONE_FILES) ? -1 : replace();
}

static long own_table_close(void)
{
    return unshare(CLONE_FILES) ? -1 : close_both();
}

static long close_on_exec(void)
{
    return fcntl(USED, F_SETFD, FD_CLOEXEC);
}

// A process, not a thread, that shares the table of descriptors.
static char stack[65536] __attribute__((aligned(16)));

static int changes_table(void *arg)
{
    (void)arg;
    return syscall(SYS_dup2, SECOND, USED) == USED ? 0 : 1;
}

static long replaced_by_process(void)
{
    int status;
    pid_t child = clone(changes_table, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL);
    NEED(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static void tables(void)
{
    static const struct {
        const char *name;
        long (*change)(void);
    } changes[] = {
        {"dup2", replace},
        {"close", close_it},
        {"close_range", close_both},
        {"close_range, CLOSE_RANGE_UNSHARE", close_with_own_table},
        {"unshare, dup2", own_table_replace},
        {"unshare, close_range", own_table_close},
        {"F_SETFD", close_on_exec},
    };
    make_files();
    for (unsigned i = 0; i < COUNT(changes); i++) {
        for (int how = 0; how < 3; how++) {
            say("try", "%s, %s", changes[i].name,
                how == 0   ? "alone"
                : how == 1 ? "by the main thread"
                           : "by a thread");
            pid_t child = fork();
            NEED(child >= 0);
            if (child == 0) {
                if (how == 0)
                    run_alone(probe, changes[i].change);
                else
                    run_team(NULL, probe, changes[i].change, how == 1 ? 0 : 2);
                _exit(0);
            }
            wait_and_say("ended", child);
        }
    }
    run_team(NULL, probe, own_table_replace, 1);
    run_team(NULL, probe, close_it, 2);
}

// ---- One thread replaces a descriptor, and all look at once, many times ----

static bool table_shared;
static unsigned long wrong[THREADS];

static void *swaps(void *arg)
{
    number = (int)(long)arg;
    if (number == 3 && !table_shared)
        NEED(unshare(CLONE_FILES) == 0);
    for (int i = 0; i < 2 * times; i++) {
        bool second = i % 2 && (table_shared || number == 3);
        meet();
        if (number == 3)
            NEED(dup2(i % 2 ? SECOND : FIRST, USED) == USED);
        meet();
        for (int j = 0; j < 3; j++) {
            wrong[number] += byte_of(USED) != (second ? 'b' : 'a');
            wrong[number] += size_of(USED) != (second ? 5 : 10);
            wrong[number] += lseek(USED, 0, SEEK_END) != (second ? 5 : 10);
        }
    }
    return arg;
}

static void to_and_fro(void)
{
    make_files();
    for (int i = 0; i < 2; i++) {
        table_shared = i == 0;
        all_run(swaps);
        for (int j = 0; j < THREADS; j++)
            say(table_shared ? "shared" : "own", "thread %d: wrong %lu", j, wrong[j]);
    }
}

// ---- The number of a file becomes that of a pipe, in several ways ----

static int ends[2]; // of a pipe
static volatile int hits;
static volatile int write_at_hit;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    int saved = errno;
    if (++hits == write_at_hit)
        NEED(write(ends[1], "p", 1) == 1);
    errno = saved;
}

static void by_dup2(void)
{
    NEED(dup2(ends[0], USED) == USED);
}

static void by_dup3(void)
{
    NEED(dup3(ends[0], USED, O_CLOEXEC) == USED);
}

static void by_f_dupfd(void)
{
    NEED(close(USED) == 0 && fcntl(ends[0], F_DUPFD, USED) == USED);
}

static void by_close_range(void)
{
    NEED(close_range(USED, USED, 0) == 0 && fcntl(ends[0], F_DUPFD_CLOEXEC, USED) == USED);
}

static void by_new_pipe(void)
{
    // The lowest number is taken: leave only this one.
    int fds[2], fillers[USED], count = 0;
    while ((fillers[count] = dup(ends[0])) < USED)
        count++;
    NEED(close(fillers[count]) == 0 && close(USED) == 0 && pipe(fds) == 0 && fds[0] == USED);
    NEED(dup2(fds[1], ends[1]) == ends[1] && close(fds[1]) == 0);
    for (int i = 0; i < count; i++)
        NEED(close(fillers[i]) == 0);
}

static void by_message(void)
{
    int sockets[2], fillers[USED], count = 0;
    NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    while ((fillers[count] = dup(ends[0])) < USED)
        count++;
    NEED(close(fillers[count]) == 0 && close(USED) == 0);
    char control[CMSG_SPACE(sizeof(int))] = "", byte = 'x';
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = sizeof(control);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &ends[0], sizeof(int));
    NEED(sendmsg(sockets[0], &message, 0) == 1 && recvmsg(sockets[1], &message, 0) == 1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    NEED(fd == USED && close(sockets[0]) == 0 && close(sockets[1]) == 0);
    for (int i = 0; i < count; i++)
        NEED(close(fillers[i]) == 0);
}

static void *dup2_in_thread(void *arg)
{
    by_dup2();
    return arg;
}

static void by_thread(void)
{
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, dup2_in_thread, NULL) == 0);
    NEED(pthread_join(thread, NULL) == 0);
}

static int dup2_in_process(void *arg)
{
    (void)arg;
    return syscall(SYS_dup2, ends[0], USED) == USED ? 0 : 1;
}

static void by_process(void)
{
    int status;
    pid_t child = clone(dup2_in_process, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL);
    NEED(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void by_vm_process(void)
{
    int status;
    int flags = CLONE_FILES | CLONE_VM | CLONE_VFORK | SIGCHLD;
    pid_t child = clone(dup2_in_process, stack + sizeof(stack), flags, NULL);
    NEED(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static long hot_read(long size)
{
    static char buffer[64];
    return read(USED, buffer, size);
}

static void become_pipe(const char *name, void (*become)(void))
{
    static const int flags[] = {0, SA_RESTART};
    struct itimerval timer = {{0, 3000}, {0, 3000}}, none = {0};
    for (unsigned i = 0; i < COUNT(flags); i++) {
        open_at("a", USED, O_RDONLY);
        NEED(pipe(ends) == 0);
        unsigned long bad = 0;
        for (int j = 0; j < 2 * times; j++)
            bad += lseek(USED, 0, SEEK_SET) != 0 || hot_read(3) != 3 || hot_read(20) != 7 ||
                   hot_read(3) != 0;
        handle(SIGALRM, on_alarm, flags[i]);
        hits = 0;
        write_at_hit = flags[i] ? 3 : 0;
        become();
        NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        long result = hot_read(3);
        int error = errno, hits_then = hits;
        NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
        errno = error;
        say(name, "%s: file %lu wrong, pipe %s, read %ld, after %s",
            flags[i] ? "SA_RESTART" : "plain", bad, outcome(result), result,
            hits_then >= write_at_hit ? "enough signals" : "too few");
        say(name, "seek %s", outcome(lseek(USED, 0, SEEK_SET)));
        NEED(close(ends[0]) == 0 && close(ends[1]) == 0 && close(USED) == 0);
    }
}

static void becomes_pipe(void)
{
    make_files();
    become_pipe("dup2", by_dup2);
    become_pipe("dup3", by_dup3);
    become_pipe("F_DUPFD", by_f_dupfd);
    become_pipe("close_range", by_close_range);
    become_pipe("pipe", by_new_pipe);
    become_pipe("recvmsg", by_message);
    become_pipe("dup2 in another thread", by_thread);
    become_pipe("dup2 in a process in the same memory", by_vm_process);
}

// A process that shares the table but not the memory.
static void shared_table(void)
{
    make_files();
    run_alone(probe, replaced_by_process);
    NEED(dup2(FIRST, USED) == USED);
    run_team(NULL, probe, replaced_by_process, 1);
    become_pipe("dup2 in another process", by_process);
}

// ---- A pipe that waits or does not, as somebody else has set it ----

static void nonblocking(void)
{
    int orders[2], done[2];
    char byte;
    NEED(pipe(ends) == 0 && pipe(orders) == 0 && pipe(done) == 0);
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        while (read(orders[0], &byte, 1) == 1 && byte != 'q')
            NEED(fcntl(ends[0], F_SETFL, byte == 'n' ? O_NONBLOCK : 0) == 0 &&
                 write(done[1], "x", 1) == 1);
        _exit(0);
    }
    handle(SIGALRM, on_alarm, 0);
    struct itimerval timer = {{0, 3000}, {0, 3000}}, none = {0};
    struct tally waiting = {.name = "waits"}, not_waiting = {.name = "does not"};
    write_at_hit = 0;
    for (int i = 0; i < times / 2; i++) {
        NEED(write(orders[1], "n", 1) == 1 && read(done[0], &byte, 1) == 1);
        for (int j = 0; j < 3; j++)
            note(&not_waiting, got(read(ends[0], &byte, 1)));
        NEED(write(orders[1], "w", 1) == 1 && read(done[0], &byte, 1) == 1);
        NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        note(&waiting, got(read(ends[0], &byte, 1)));
        NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    }
    tell("pipe", &not_waiting);
    tell("pipe", &waiting);
    NEED(write(orders[1], "q", 1) == 1);
    wait_and_say("child", child);
    int event = eventfd(0, 0);
    uint64_t value = 1;
    NEED(event >= 0);
    for (int i = 0; i < 2 * times; i++)
        NEED(write(event, &value, 8) == 8 && read(event, &value, 8) == 8 && value == 1);
    NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    long result = read(event, &value, 8);
    int error = errno;
    NEED(setitimer(ITIMER_REAL, &none, NULL) == 0);
    errno = error;
    say("eventfd", "%s", outcome(result));
}

// ---- The file offset is common to all who share the open file, and moves exactly once a call ----

static volatile unsigned long sum, records;
enum { RECORDS = 2000 };

static void *reads_records(void *arg)
{
    uint32_t record;
    unsigned long mine = 0, count = 0;
    while (read(USED, &record, sizeof(record)) == sizeof(record)) {
        mine += record;
        count++;
    }
    __atomic_add_fetch(&sum, mine, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&records, count, __ATOMIC_SEQ_CST);
    return arg;
}

static void *appends_records(void *arg)
{
    for (uint32_t i = 0; i < RECORDS / THREADS; i++) {
        uint32_t record[2] = {i, ~i};
        struct iovec parts[2] = {{&record[0], 4}, {&record[1], 4}};
        NEED(i % 2 ? write(SECOND, record, 8) == 8 : writev(SECOND, parts, 2) == 8);
    }
    return arg;
}

static void offsets(void)
{
    make_files();
    for (uint32_t i = 0; i < RECORDS; i++)
        NEED(pwrite(FIRST, &i, 4, i * 4L) == 4);
    open_at("a", USED, O_RDONLY);
    all_run(reads_records);
    say("read", "%lu records, sum %lu", records, sum);
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        NEED(lseek(USED, 0, SEEK_SET) == 0);
        for (int i = 0; i < times; i++)
            reads_records(NULL);
        NEED(lseek(USED, 12, SEEK_SET) == 12);
        _exit(0);
    }
    wait_and_say("child", child);
    TRY("where the child left it", lseek(USED, 0, SEEK_CUR));
    open_at("b", SECOND, O_RDWR | O_APPEND);
    NEED(ftruncate(SECOND, 0) == 0);
    all_run(appends_records);
    unsigned long whole = 0;
    sum = 0;
    uint32_t record[2];
    while (pread(SECOND, record, 8, whole * 8) == 8 && record[0] == ~record[1]) {
        sum += record[0];
        whole++;
    }
    say("appended", "%lu whole records, sum %lu, size %ld", whole, sum, size_of(SECOND));
}

// ---- Locks belong to the process and its table of descriptors ----

static long lock(int type)
{
    struct flock what = {.l_type = (short)type, .l_whence = SEEK_SET};
    return fcntl(FIRST, F_SETLK, &what);
}

static long holder(void)
{
    struct flock what = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    NEED(fcntl(FIRST, F_GETLK, &what) == 0);
    return what.l_type == F_UNLCK    ? 0
           : what.l_pid == getpid()  ? 1
           : what.l_pid == getppid() ? 2
                                     : 3;
}

static long only_own_table(void)
{
    return unshare(CLONE_FILES);
}

static void probe_locks(void)
{
    TRY("lock", lock(F_WRLCK));
    TRY("holder", holder());
}

static void locks(void)
{
    make_files();
    TRY("lock", lock(F_WRLCK));
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        warm();
        probe_locks();
        _exit(0);
    }
    wait_and_say("child", child);
    // Whoever has a table of its own is not the holder any more.
    run_team(NULL, probe_locks, only_own_table, 1);
    NEED(lock(F_UNLCK) == 0);
    TRY("unlocked", lock(F_RDLCK));
    TRY("flock", flock(FIRST, LOCK_EX | LOCK_NB));
}

int main(int argc, char **argv)
{
    static const struct mode modes[] = {
        {"tables", tables, false},
        {"to and fro", to_and_fro, false},
        {"becomes a pipe", becomes_pipe, false},
        {"nonblocking", nonblocking, false},
        {"shared table", shared_table, true},
        {"offsets", offsets, false},
        {"locks", locks, false},
    };
    return run_modes(argc, argv, modes, COUNT(modes));
}
