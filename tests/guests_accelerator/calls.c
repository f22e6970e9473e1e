// A process with an HRT: what functions in it may do, and what becomes of what goes wrong. Prints
// facts that do not depend on addresses or times. Arguments: the part, then the core's path or "".
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "multiverse.h"

static struct mv_hrt *hrt;
static __thread int local = 7;

static uint64_t gs_base(void)
{
    uint64_t gs;
    __asm__ volatile("rdgsbase %0" : "=r"(gs));
    return gs;
}

static void create(unsigned threads, const char *core, unsigned flags)
{
    struct mv_hrt_options options = {
        .threads = threads, .flags = flags, .core = *core ? core : NULL};
    int err = mv_hrt_create(&options, &hrt);
    if (err) {
        printf("create: %s: %s\n", strerrorname_np(-err), mv_error());
        exit(1);
    }
}

static uint64_t call(void *function, unsigned count, ...)
{
    uint64_t args[6] = {0}, result = 0;
    va_list ap;
    va_start(ap, count);
    for (unsigned i = 0; i < count; i++)
        args[i] = va_arg(ap, uint64_t);
    va_end(ap);
    int err = mv_hrt_call(hrt, &result, function, count, args);
    if (err)
        printf("call: %s\n", strerrorname_np(-err));
    return result;
}

static uint64_t six(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}

static double mixed(double x, int k, float y, int a, int b, int c, int d, int e, int f, long g)
{
    return x * k + y + a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * (double)g;
}

static uint64_t tls(void)
{
    local++;
    errno = EDOM;
    return gs_base() != 0;
}

static uint64_t natively(void *arg)
{
    local += *(int *)arg;
    return gs_base() == 0 ? 21 : 0;
}

static uint64_t back(int by)
{
    return gs_base() ? 2 * mv_ros_call(natively, &by) : 0;
}

static uint64_t nested(uint64_t n)
{
    uint64_t result = 0;
    if (n == 0)
        return 5;
    mv_hrt_call(hrt, &result, (void *)nested, 1, (uint64_t[]){n - 1});
    return result + (mv_in_hrt() ? 1 : 100);
}

static void *square(void *arg)
{
    return (void *)((uint64_t)arg * (uint64_t)arg);
}

static uint64_t makes_threads(void)
{
    uint64_t sum = 0;
    for (uint64_t i = 1; i <= 5; i++) {
        pthread_t thread;
        void *result = NULL;
        if (pthread_create(&thread, NULL, square, (void *)i) == 0)
            pthread_join(thread, &result);
        sum += (uint64_t)result;
    }
    return sum;
}

static void basics(const char *core)
{
    struct mv_call c = {.function = (void *)mixed,
                        .integers = {3, 1, 2, 3, 4, 5},
                        .reals = {1.5},
                        .stack = (uint64_t[]){6, 7},
                        .stack_count = 2};
    const float half = 0.5f;
    memcpy(&c.reals[1], &half, sizeof(half));
    create(1, core, 0);
    printf("arguments %lu\n", call((void *)six, 6, 1UL, 2UL, 3UL, 4UL, 5UL, 6UL));
    int err = mv_hrt_invoke(hrt, &c);
    printf("mixed %d %g, as natively %g\n", err, c.real_result[0],
           mixed(1.5, 3, half, 1, 2, 3, 4, 5, 6, 7));
    errno = 0;
    uint64_t within = call((void *)tls, 0);
    printf("tls %d errno %s within %lu\n", local, strerrorname_np(errno), within);
    printf("back %lu", call((void *)back, 1, 3UL));
    printf(" tls %d\n", local);
    printf("nested %lu\n", call((void *)nested, 1, 3UL));
    printf("threads %lu\n", call((void *)makes_threads, 0));
    int status = (int)call((void *)system, 1, (uint64_t) "exit 3");
    printf("system %d\n", WEXITSTATUS(status));
    printf("out of the HRT %d\n", mv_in_hrt());
    printf("destroy %d\n", mv_hrt_destroy(hrt));
}

// ---- What goes wrong ----------------------------------------------------------------------------

static uint64_t load(const uint64_t *p)
{
    return *p;
}

static uint64_t divide(uint64_t by)
{
    return 7 / by;
}

static uint64_t recurse(uint64_t n)
{
    volatile char block[4096];
    block[0] = (char)n;
    return recurse(n + 1) + (uint64_t)block[0];
}

static uint64_t undefined(void)
{
    __builtin_trap();
}

static volatile sig_atomic_t own_handler;

static void on_segv(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig;
    own_handler = info->si_addr == (void *)24;
    uc->uc_mcontext.gregs[REG_RIP] += 3; // mov (%rax),%rax
}

static void fault(const char *what, void *function, uint64_t arg)
{
    uint64_t result;
    int err = mv_hrt_call(hrt, &result, function, 1, &arg);
    const struct mv_fault *f = mv_fault_last();
    printf("%s: %s signal %s code %d address %lx frames %s\n", what,
           err ? strerrorname_np(-err) : "0", sigabbrev_np(f->signal), f->code,
           f->signal == SIGSEGV ? f->address & 0xfff : 0, f->frames ? "yes" : "no");
}

static uint64_t protect(char *page, int prot)
{
    return (uint64_t)mprotect(page, 4096, prot);
}

static uint64_t store(char *page)
{
    return (uint64_t)(*page = 3);
}

static void faults(const char *core)
{
    static uint64_t data[2];
    pthread_key_t key;
    pthread_key_create(&key, NULL);
    pthread_setspecific(key, data);
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    create(1, core, 0);
    fault("null", (void *)load, 16);
    fault("not canonical", (void *)load, 0x1234567812345678);
    fault("division", (void *)divide, 0);
    fault("undefined", (void *)undefined, 0);
    fault("stack overflow", (void *)recurse, 0);
    fault("data", (void *)data, 0);
    fault("nowhere", (void *)16, 0);
    printf("and then %lu\n", call((void *)six, 6, 1UL, 2UL, 3UL, 4UL, 5UL, 6UL));
    // What one side forbids the other one may allow again.
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    call((void *)protect, 2, (uint64_t)page, (uint64_t)PROT_READ);
    uint64_t refused =
        (uint64_t)mv_hrt_call(hrt, NULL, (void *)store, 1, (uint64_t[]){(uint64_t)page});
    protect(page, PROT_READ | PROT_WRITE);
    printf("refused %d stored %lu\n", (int)refused == -EFAULT,
           call((void *)store, 1, (uint64_t)page));
    // The process's own handler has what native threads do.
    uint64_t value = 24;
    __asm__ volatile("mov (%%rax), %%rax" : "+a"(value));
    printf("own handler %d\n", (int)own_handler);
    mv_hrt_destroy(hrt);
    printf("own data is there %d\n", pthread_getspecific(key) == data);
    own_handler = 0;
    value = 24;
    __asm__ volatile("mov (%%rax), %%rax" : "+a"(value));
    printf("own handler afterwards %d\n", (int)own_handler);
    printf("no function: %s\n", strerrorname_np(-mv_hrt_call(hrt, NULL, NULL, 0, NULL)));
    printf("closed: %s\n", strerrorname_np(-mv_hrt_call(hrt, NULL, (void *)six, 0, NULL)));
    printf("again: %s\n", strerrorname_np(-mv_hrt_destroy(hrt)));
}

// ---- Tasks, other threads, other processes ------------------------------------------------------

static uint64_t count_to(uint64_t n)
{
    volatile uint64_t i = 0;
    while (i < n)
        i++;
    return i;
}

static void *caller(void *arg)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t result = 0;
        local = (int)i;
        int err = mv_hrt_call(hrt, &result, (void *)six, 2, (uint64_t[]){i, (uint64_t)arg});
        wrong += err != 0 || result != i + 10 * (uint64_t)arg || local != (int)i;
    }
    return (void *)wrong;
}

static void tasks(const char *core)
{
    enum { TASKS = 20, CALLERS = 5 };
    struct mv_call calls[TASKS];
    struct mv_task *task[TASKS];
    pthread_t threads[CALLERS];
    uint64_t sum = 0, wrong = 0;
    create(2, core, 0);
    for (uint64_t i = 0; i < TASKS; i++) {
        calls[i] = (struct mv_call){.function = (void *)(i == 7 ? (void *)load : (void *)count_to),
                                    .integers = {i == 7 ? 16 : 1000 * i}};
        wrong += mv_hrt_submit(hrt, &calls[i], &task[i]) != 0;
    }
    for (uint64_t i = 0; i < CALLERS; i++)
        wrong += pthread_create(&threads[i], NULL, caller, (void *)i) != 0;
    for (uint64_t i = 0; i < TASKS; i++) {
        int err = mv_task_join(task[i]);
        wrong += err != (i == 7 ? -EFAULT : 0);
        sum += i == 7 ? 0 : calls[i].result[0];
    }
    for (uint64_t i = 0; i < CALLERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (uint64_t)result;
    }
    printf("tasks %lu wrong %lu\n", sum, wrong);
    for (int i = 0; i < 3; i++)
        printf("reboot %d, %lu\n", mv_hrt_reboot(hrt), call((void *)count_to, 1, 5UL));
    struct mv_hrt *other;
    printf("another: %s\n", strerrorname_np(-mv_hrt_create(NULL, &other)));
    mv_hrt_destroy(hrt);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
    (void)sig;
    alarms += gs_base() == 0; // natively
}

static uint64_t until_alarms(uint64_t n)
{
    while ((uint64_t)alarms < n)
        __builtin_ia32_pause();
    return n;
}

static void processes(const char *core)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, 2000}, {0, 2000}}, none = {{0, 0}, {0, 0}};
    create(1, core, 0);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    printf("signals reach native threads: %lu\n", call((void *)until_alarms, 1, 20UL));
    setitimer(ITIMER_REAL, &none, NULL);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int err = mv_hrt_call(hrt, NULL, (void *)six, 0, NULL);
        printf("in a child: %s\n", strerrorname_np(-err));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    printf("in the parent: %lu\n", call((void *)count_to, 1, 9UL));
    // While the HRT is down the process may become another program.
    mv_hrt_destroy(hrt);
    fflush(stdout);
    if (fork() == 0)
        execl("/bin/echo", "echo", "executed", (char *)NULL);
    wait(NULL);
    create(1, core, 0);
    printf("and up again: %lu\n", call((void *)count_to, 1, 8UL));
    fflush(stdout);
    call((void *)exit, 1, 4UL); // from within
}

static void fallback(const char *core)
{
    create(1, core, MV_HRT_NATIVE);
    printf("ring %d: %lu\n", mv_hrt_ring(hrt), call((void *)six, 6, 1UL, 2UL, 3UL, 4UL, 5UL, 6UL));
    printf("tls %lu", call((void *)tls, 0));
    printf(" %d\n", local);
    printf("destroy %d\n", mv_hrt_destroy(hrt));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*part)(const char *core);
    } parts[] = {{"basics", basics},
                 {"faults", faults},
                 {"tasks", tasks},
                 {"processes", processes},
                 {"fallback", fallback}};
    for (unsigned i = 0; argc > 2 && i < sizeof(parts) / sizeof(parts[0]); i++)
        if (strcmp(argv[1], parts[i].name) == 0)
            parts[i].part(argv[2]);
    return 0;
}
