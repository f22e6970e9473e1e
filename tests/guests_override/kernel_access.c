// What Linux does with memory that a write barrier protects: system calls fail, and succeed, as the
// program's own protection says, whoever keeps it; and so do handlers of all sorts. Everything is
// printed, to be compared.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, OFTEN = 10 };

static char *heap, *page; // page: the one that is looked at
static int in, out, zero; // of a pipe; a file of zeros
static int pair[2];

static int protect(void *at, size_t size, int prot)
{
    for (int i = 0; i < OFTEN; i++)
        if (mprotect(at, size, PROT_READ) || mprotect(at, size, prot))
            return -1;
    return 0;
}

static void fill(void)
{
    char bytes[64] = "/dev/null";
    (void)!write(out, bytes, sizeof(bytes));
    (void)!write(pair[1], bytes, sizeof(bytes));
}

// ---- System calls -------------------------------------------------------------------------------

static long do_read(void)
{
    return read(in, page, 8);
}
static long do_write(void)
{
    return write(out, page, 8);
}
static long do_pread(void)
{
    return pread(zero, page, 8, 0);
}
static long do_getrandom(void)
{
    return syscall(SYS_getrandom, page, 8, 0);
}
static long do_stat(void)
{
    return syscall(SYS_newfstatat, AT_FDCWD, "/", page, 0);
}
static long do_open(void)
{
    int fd = open(page, O_RDONLY);
    return fd < 0 ? -1 : close(fd);
}
static long do_getcwd(void)
{
    return syscall(SYS_getcwd, page, PAGE) > 0 ? 0 : -1;
}
static long do_uname(void)
{
    return syscall(SYS_uname, page);
}
static long do_clock(void)
{
    return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, page);
}
static long do_pipe(void)
{
    int err = syscall(SYS_pipe2, page, 0);
    if (!err) {
        close(((int *)page)[0]);
        close(((int *)page)[1]);
    }
    return err;
}
static long do_poll(void)
{
    return syscall(SYS_poll, page, 1, 0) < 0 ? -1 : 0;
}
static long do_select(void)
{
    return syscall(SYS_select, 0x20, page, 0, 0, page + 256) < 0;
}
static long do_futex(void)
{
    return syscall(SYS_futex, page, FUTEX_WAIT_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}
static long do_sleep(void)
{
    return syscall(SYS_nanosleep, page + 512, NULL);
}
static long do_action(void)
{
    return syscall(SYS_rt_sigaction, SIGUSR1, NULL, page, 8);
}
static long do_mask(void)
{
    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, page, 8);
}
static long do_limit(void)
{
    return syscall(SYS_getrlimit, RLIMIT_NOFILE, page);
}
static long do_fionread(void)
{
    return ioctl(in, FIONREAD, page);
}
static long do_mincore(void)
{
    return syscall(SYS_mincore, heap, PAGE, page);
}
static long do_getsockopt(void)
{
    socklen_t size = 4;
    return getsockopt(pair[0], SOL_SOCKET, SO_TYPE, page, &size);
}
static long do_setsockopt(void)
{
    return setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, page, 4);
}
static long do_name(void)
{
    socklen_t size = 16;
    return getsockname(pair[0], (struct sockaddr *)page, &size);
}
static long do_sendfile(void)
{
    return syscall(SYS_sendfile, pair[1], zero, page + 512, 8);
}
static long do_epoll(void)
{
    int fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLOUT};
    long n = epoll_ctl(fd, EPOLL_CTL_ADD, out, page == heap ? &event : (void *)page);
    n |= epoll_ctl(fd, EPOLL_CTL_MOD, out, &event) & 0;
    long got = syscall(SYS_epoll_wait, fd, page, 1, 0);
    close(fd);
    return n * 10 + got;
}
static long do_readv(void)
{
    char here[4];
    struct iovec v[] = {{here, 4}, {page, 4}};
    return readv(in, v, 2);
}
static long do_writev(void)
{
    char here[4] = "abc";
    struct iovec v[] = {{here, 4}, {page, 4}};
    return writev(out, v, 2);
}
static long do_vectors(void) // the array itself
{
    return syscall(SYS_readv, zero, page + 512, 1);
}
static long do_recvmsg(void)
{
    struct iovec v = {page, 8};
    struct msghdr message = {.msg_iov = &v, .msg_iovlen = 1};
    return recvmsg(pair[0], &message, MSG_DONTWAIT);
}
static long do_sendmsg(void)
{
    struct iovec v = {page, 8};
    struct msghdr message = {.msg_iov = &v, .msg_iovlen = 1};
    return sendmsg(pair[1], &message, MSG_DONTWAIT);
}
static long do_vm_read(void)
{
    char here[8];
    struct iovec local = {here, 8}, remote = {page, 8};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}
static long do_vm_write(void)
{
    char here[8] = {0};
    struct iovec local = {here, 8}, remote = {page, 8};
    return process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
}
static long do_populate(void)
{
    return madvise(page, PAGE, MADV_POPULATE_WRITE);
}
static long do_lock(void)
{
    long err = mlock(page, PAGE);
    munlock(page, PAGE);
    return err;
}
static long do_partial(void) // up to the page
{
    return read(zero, page - 100, 200);
}

static const struct {
    const char *name;
    long (*make)(void);
} calls[] = {
    {"read", do_read},
    {"write", do_write},
    {"pread", do_pread},
    {"getrandom", do_getrandom},
    {"stat", do_stat},
    {"open", do_open},
    {"getcwd", do_getcwd},
    {"uname", do_uname},
    {"clock", do_clock},
    {"pipe", do_pipe},
    {"poll", do_poll},
    {"select", do_select},
    {"futex", do_futex},
    {"sleep", do_sleep},
    {"action", do_action},
    {"mask", do_mask},
    {"limit", do_limit},
    {"fionread", do_fionread},
    {"mincore", do_mincore},
    {"getsockopt", do_getsockopt},
    {"setsockopt", do_setsockopt},
    {"name", do_name},
    {"sendfile", do_sendfile},
    {"epoll", do_epoll},
    {"readv", do_readv},
    {"writev", do_writev},
    {"vectors", do_vectors},
    {"recvmsg", do_recvmsg},
    {"sendmsg", do_sendmsg},
    {"vm_read", do_vm_read},
    {"vm_write", do_vm_write},
    {"populate", do_populate},
    {"lock", do_lock},
    {"partial", do_partial},
};

static void call_all(int prot)
{
    for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        page = heap + (size_t)(2 * i % (PAGES - 4) + 2) * PAGE;
        protect(page, PAGE, PROT_READ | PROT_WRITE);
        memset(page, 0, PAGE);
        strcpy(page, "/dev/null");
        *(struct iovec *)(page + 512) = (struct iovec){NULL, 0};
        fill();
        protect(page, PAGE, prot);
        errno = 0;
        long result = calls[i].make();
        printf("%d %s %ld %s\n", prot, calls[i].name, result, errno ? strerror(errno) : "-");
        protect(page, PAGE, PROT_READ | PROT_WRITE);
    }
}

// ---- /proc/self/maps ----------------------------------------------------------------------------

static void show_maps(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end, low = (unsigned long)heap, high = low + (unsigned long)PAGES * PAGE;
    char rights[8];
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) != 3 || end <= low || start >= high)
            continue;
        start = start < low ? low : start;
        end = end > high ? high : end;
        printf("maps %lu-%lu %s\n", (start - low) / PAGE, (end - low) / PAGE, rights);
    }
    fclose(maps);
}

static void check_maps(void)
{
    protect(heap, PAGES * PAGE, PROT_READ);
    mprotect(heap + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    mprotect(heap + 5 * PAGE, 4 * PAGE, PROT_NONE);
    show_maps();
    mprotect(heap + 7 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    show_maps();
    pid_t pid = fork();
    if (!pid) {
        mprotect(heap + 20 * PAGE, 3 * PAGE, PROT_NONE);
        show_maps();
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    protect(heap, PAGES * PAGE, PROT_READ | PROT_WRITE);
}

// ---- Handlers -----------------------------------------------------------------------------------

static volatile int depth, deepest, before;
static sigjmp_buf back;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    char *at = info->si_addr, here;
    int err = (int)uc->uc_mcontext.gregs[REG_ERR], trap = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
    depth++;
    deepest = depth > deepest ? depth : deepest;
    printf("fault %d code %d page %ld err %d trap %d cr2 %d alt %d\n", sig, info->si_code,
           (at - heap) / PAGE, err, trap, (char *)uc->uc_mcontext.gregs[REG_CR2] == at,
           (char *)&here < heap || (char *)&here >= heap + PAGES * PAGE);
    if (at >= heap + 40 * PAGE)
        siglongjmp(back, 1);
    if (before && at >= heap + PAGE) // another page faults in here first
        *(volatile char *)(at - PAGE) = 1;
    mprotect((void *)((unsigned long)at & -PAGE), PAGE, PROT_READ | PROT_WRITE);
    depth--;
}

static void handle(int flags)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | flags};
    sigaction(SIGSEGV, &action, NULL);
    memset(heap, 1, PAGES * PAGE); // so that they are there
    protect(heap, PAGES * PAGE, PROT_READ);
    before = 0;
    for (int i = 2; i < 6; i++)
        *(volatile char *)(heap + i * PAGE) = 2;
    before = flags & SA_NODEFER;
    *(volatile char *)(heap + 12 * PAGE + 7) = 3;
    before = 0;
    for (int i = 0; i < 3; i++) {
        protect(heap + (40 + i) * PAGE, PAGE, i ? PROT_READ : PROT_NONE);
        if (!sigsetjmp(back, 1))
            *(volatile char *)(heap + (40 + i) * PAGE) = 4;
        printf("back from %d\n", depth);
        depth = 0;
    }
    printf("deepest %d\n", deepest);
    protect(heap, PAGES * PAGE, PROT_READ | PROT_WRITE);
}

// ---- Threads ------------------------------------------------------------------------------------

static pthread_barrier_t barrier;
static volatile unsigned long counted;

static void on_shared(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    __atomic_fetch_add(&counted, 1, __ATOMIC_RELAXED);
    mprotect((void *)((unsigned long)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE);
}

static void *waiter(void *arg)
{
    long *result = arg;
    errno = 0;
    *result = read(in, heap + 30 * PAGE, 8);
    *result = *result < 0 ? -errno : *result;
    return NULL;
}

static void *writer(void *arg)
{
    for (int round = 0; round < 40; round++) {
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < PAGES; i++)
            __atomic_fetch_add((int *)(heap + i * PAGE) + (arg != NULL), 1, __ATOMIC_RELAXED);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void with_threads(void)
{
    struct sigaction action = {.sa_sigaction = on_shared, .sa_flags = SA_SIGINFO | SA_RESTART};
    char bytes[PAGE];
    pthread_t thread[2];
    long result;
    fcntl(in, F_SETFL, O_NONBLOCK);
    while (read(in, bytes, sizeof(bytes)) > 0)
        ;
    fcntl(in, F_SETFL, 0);
    protect(heap, PAGES * PAGE, PROT_READ | PROT_WRITE);
    pthread_create(&thread[0], NULL, waiter, &result);
    usleep(100000); // it waits by now, or comes later, to the same effect
    protect(heap, PAGES * PAGE, PROT_READ);
    (void)!write(out, "12345678", 8);
    pthread_join(thread[0], NULL);
    printf("a read into what has been protected since: %ld\n", result);

    sigaction(SIGSEGV, &action, NULL);
    protect(heap, PAGES * PAGE, PROT_READ | PROT_WRITE);
    memset(heap, 0, PAGES * PAGE);
    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, writer, i ? &thread : NULL);
    int missed = 0;
    for (int round = 0; round < 40; round++) {
        counted = 0;
        mprotect(heap, PAGES * PAGE, PROT_READ);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        missed += counted < PAGES || counted > 2 * PAGES;
    }
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < PAGES; i++)
        missed += ((int *)(heap + i * PAGE))[0] != 40 || ((int *)(heap + i * PAGE))[1] != 40;
    printf("two threads: %d missed\n", missed);
}

int main(void)
{
    static char apart[1 << 16];
    stack_t stack = {.ss_sp = apart, .ss_size = sizeof(apart)};
    int ends[2];
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    sigaltstack(&stack, NULL);
    signal(SIGPIPE, SIG_IGN);
    heap = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    zero = open("/dev/zero", O_RDWR);
    if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    in = ends[0], out = ends[1];
    call_all(PROT_READ);
    call_all(PROT_NONE);
    call_all(PROT_READ | PROT_WRITE);
    check_maps();
    handle(0);
    handle(SA_ONSTACK);
    handle(SA_NODEFER);
    handle(SA_NODEFER | SA_ONSTACK);
    with_threads();
    return 0;
}
