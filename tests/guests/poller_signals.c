// Proves that signals sent to the process reach the program whatever threads are in it that are not
// the program's: a signal that instructions raise, when somebody sends it; one that stays pending
// while a call that fails raises another of its kind; one asked for by a descriptor's flag.
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static volatile unsigned *handled; // by number; in memory that children share
static volatile bool stop;

static void handler(int sig, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    __atomic_add_fetch(&handled[sig], 1, __ATOMIC_SEQ_CST);
}

static void warm(void)
{
    for (int i = 0; i < 300; i++)
        NEED(getppid() > 0);
}

static const int sent[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGUSR1};
enum { ROUNDS = 60, LOST_MAX = 2, PATIENCE_MS = 10000 };

static bool comes(int sig, unsigned before)
{
    for (int ms = 0; ms < PATIENCE_MS && handled[sig] == before; ms++)
        pass_ms(1);
    return handled[sig] != before;
}

// Another process sends, waits until it has been handled, and sends the next. Returns how many were
// lost as its status.
static pid_t start_sender(void)
{
    pid_t process = getpid(), child = fork();
    NEED(child >= 0);
    if (child)
        return child;
    int lost = 0;
    for (int i = 0; i < ROUNDS && lost < LOST_MAX; i++)
        for (unsigned j = 0; j < COUNT(sent) && lost < LOST_MAX; j++) {
            unsigned before = handled[sent[j]];
            NEED(kill(process, sent[j]) == 0);
            if (!comes(sent[j], before)) {
                say("lost", "SIG%s", sigabbrev_np(sent[j]));
                lost++;
            }
        }
    _exit(lost);
}

static void *calls(void *arg)
{
    while (!stop)
        getppid();
    return arg;
}

static void *calls_and_reports(void *arg)
{
    int status;
    pid_t child = start_sender();
    while (waitpid(child, &status, WNOHANG) == 0)
        for (int i = 0; i < 10; i++)
            getppid();
    say_status(arg, status);
    return NULL;
}

static void sent_signals(void)
{
    pthread_t threads[2];
    for (unsigned i = 0; i < COUNT(sent); i++)
        handle(sent[i], handler, SA_RESTART);
    warm();
    calls_and_reports("one thread");
    NEED(pthread_create(&threads[0], NULL, calls, NULL) == 0);
    calls_and_reports("two threads");
    stop = true;
    NEED(pthread_join(threads[0], NULL) == 0);
}

static void *last_thread(void *arg)
{
    pass_ms(20);
    warm();
    calls_and_reports("without the main thread");
    exit(3);
    return arg;
}

static void without_main_thread(void)
{
    pthread_t thread;
    for (unsigned i = 0; i < COUNT(sent); i++)
        handle(sent[i], handler, SA_RESTART);
    NEED(pthread_create(&thread, NULL, last_thread, NULL) == 0);
    pthread_exit(NULL);
}

// A signal sent to the process, which blocks it, is pending besides the one that the call raises.
static void pending(int sig, int fd, const char *what)
{
    sigset_t set;
    struct timespec none = {0};
    unsigned long wrong = 0;
    sigemptyset(&set);
    sigaddset(&set, sig);
    NEED(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        NEED(kill(getpid(), sig) == 0);
        NEED(write(fd, "x", 1) == -1);
        int taken = 0;
        while (sigtimedwait(&set, NULL, &none) == sig)
            taken++;
        wrong += taken != 2;
    }
    say(what, "rounds in which not both were pending: %lu", wrong);
    for (int i = 0; i < 200; i++) {
        sigset_t now;
        NEED(kill(getpid(), sig) == 0);
        for (int j = 0; j < 3; j++)
            getppid();
        sigpending(&now);
        wrong += !sigismember(&now, sig) || sigtimedwait(&set, NULL, &none) != sig;
    }
    say(what, "among other calls: %lu", wrong);
}

static void pending_signals(void)
{
    int ends[2];
    char path[] = "/tmp/poller-guest-XXXXXX";
    struct rlimit limit;
    warm();
    NEED(pipe(ends) == 0 && close(ends[0]) == 0);
    pending(SIGPIPE, ends[1], "broken pipe");
    int fd = mkstemp(path);
    NEED(fd >= 0 && unlink(path) == 0);
    NEED(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 1 << 20;
    NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0 && lseek(fd, 1 << 20, SEEK_SET) == 1 << 20);
    pending(SIGXFSZ, fd, "file size");
}

// A terminal that is nobody's sends SIGIO to whoever set O_ASYNC.
static void asynchronous(void)
{
    handle(SIGIO, handler, SA_RESTART);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master == -1 || grantpt(master) || unlockpt(master)) {
        say("missing", "pseudo-terminals");
        return;
    }
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY), flags = fcntl(slave, F_GETFL);
    NEED(slave >= 0);
    unsigned long wrong = 0;
    warm();
    for (int i = 0; i < 100; i++) {
        char line[10];
        handled[SIGIO] = 0;
        for (int j = 0; j < 50; j++)
            getppid();
        NEED(fcntl(slave, F_SETFL, flags | O_ASYNC) == 0);
        NEED(write(master, "x\n", 2) == 2);
        wrong += !comes(SIGIO, 0);
        NEED(read(slave, line, sizeof(line)) == 2);
        NEED(fcntl(slave, F_SETFL, flags) == 0);
        if (wrong >= LOST_MAX)
            break;
    }
    say("O_ASYNC", "not told: %lu", wrong);
}

static void in_child(void (*run)(void), const char *name)
{
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    wait_and_say(name, child);
}

int main(void)
{
    handled = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(handled != MAP_FAILED);
    in_child(sent_signals, "sent");
    in_child(without_main_thread, "without the main thread");
    in_child(pending_signals, "pending");
    in_child(asynchronous, "asynchronous");
    return 0;
}
