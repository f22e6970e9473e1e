// What Linux does for a program, or the AeroKernel where there is one: kernel WHAT prints
// "WHAT_ns VALUE", nanoseconds for one of them.
#define _GNU_SOURCE
#include "micro.h"

#include <aerokernel.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { PAGE = 4096, TIMES = 3000 };

static bool aerokernel;
static char *page;

static void need(bool well, const char *what)
{
    if (well)
        return;
    perror(what);
    exit(1);
}

// The time that fn takes, one of TIMES, after a round that is not measured.
static double timed(void (*fn)(void))
{
    for (int i = 0; i < TIMES / 10; i++)
        fn();
    double begin = now_ns();
    for (int i = 0; i < TIMES; i++)
        fn();
    return (now_ns() - begin) / TIMES;
}

static void system_call(void)
{
    syscall(SYS_getppid);
}

// ---- Pages and faults ---------------------------------------------------------------------------

static void protect(enum ak_page_access access)
{
    if (aerokernel)
        need(ak_page_protect(page, PAGE, access) == 0, "ak_page_protect");
    else
        need(mprotect(page, PAGE, access == AK_PAGE_READ ? PROT_READ : PROT_READ | PROT_WRITE) == 0,
             "mprotect");
}

static void protect_twice(void)
{
    protect(AK_PAGE_READ);
    protect(AK_PAGE_WRITE);
}

static void barrier(void)
{
    protect(AK_PAGE_READ);
    *(volatile char *)page = 1;
}

static bool alone;     // the fault without what its handler does
static uint64_t taken; // cycles: a reading of them is quick even where one of the clock is not

static void unprotect(void)
{
    uint64_t begin = alone ? now_cycles() : 0;
    protect(AK_PAGE_WRITE);
    taken -= alone ? now_cycles() - begin : 0;
}

static void on_signal(int sig)
{
    (void)sig;
    unprotect();
}

static bool on_fault(const struct ak_fault *fault, void *arg)
{
    (void)fault, (void)arg;
    unprotect();
    return true;
}

static void make_page(void)
{
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(page != MAP_FAILED, "mmap");
    *page = 1;
    if (aerokernel) {
        need(ak_page_prepare(page, PAGE) == 0, "ak_page_prepare");
        need(ak_fault_handle(page, PAGE, on_fault, NULL) == 0, "ak_fault_handle");
    } else {
        signal(SIGSEGV, on_signal);
    }
}

static double one_protect(void)
{
    make_page();
    return timed(protect_twice) / 2;
}

static double write_barrier(void)
{
    make_page();
    return timed(barrier);
}

// The same by mprotect and SIGSEGV in an HRT, too, as a program does it that knows of no
// AeroKernel.
static double write_barrier_by_signal(void)
{
    aerokernel = false;
    return write_barrier();
}

static void one_fault(void)
{
    protect(AK_PAGE_READ);
    uint64_t begin = now_cycles();
    *(volatile char *)page = 1;
    taken += now_cycles() - begin;
}

static double fault(void)
{
    make_page();
    alone = true;
    for (int i = 0; i < TIMES / 10; i++)
        one_fault();
    taken = 0;
    double begin = now_ns();
    uint64_t cycles = now_cycles();
    for (int i = 0; i < TIMES; i++)
        one_fault();
    cycles = now_cycles() - cycles;
    return (double)taken * (now_ns() - begin) / (double)cycles / TIMES;
}

// ---- Threads ------------------------------------------------------------------------------------

static void *nothing(void *arg)
{
    return arg;
}

static void thread(void)
{
    if (aerokernel) {
        struct ak_thread *made;
        need(ak_thread_create(&made, nothing, NULL, NULL) == 0, "ak_thread_create");
        ak_thread_join(made);
    } else {
        pthread_t made;
        errno = pthread_create(&made, NULL, nothing, NULL);
        need(errno == 0, "pthread_create");
        pthread_join(made, NULL);
    }
}

static struct ak_event ping, pong;
static uint32_t turn;

static void pass_turn(uint32_t to)
{
    __atomic_store_n(&turn, to, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_turn(uint32_t mine)
{
    for (uint32_t seen; (seen = __atomic_load_n(&turn, __ATOMIC_SEQ_CST)) != mine;)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void *answer(void *arg)
{
    for (;;) {
        if (aerokernel) {
            ak_event_wait(&ping);
            ak_event_signal(&pong);
        } else {
            wait_turn(1);
            pass_turn(0);
        }
    }
    return arg;
}

static void there_and_back(void)
{
    if (aerokernel) {
        ak_event_signal(&ping);
        ak_event_wait(&pong);
    } else {
        pass_turn(1);
        wait_turn(0);
    }
}

// A wake-up: half of the way to another thread and back.
static double event(void)
{
    if (aerokernel) {
        struct ak_thread *made;
        need(ak_thread_create(&made, answer, NULL, NULL) == 0, "ak_thread_create");
    } else {
        pthread_t made;
        errno = pthread_create(&made, NULL, answer, NULL);
        need(errno == 0, "pthread_create");
    }
    return timed(there_and_back) / 2;
}

// ---- Between processors -------------------------------------------------------------------------

static volatile uint32_t arrived, expected;
static volatile bool ready;
static unsigned other_cpu;
static pthread_t other;

static void arrive(void *arg)
{
    (void)arg;
    arrived = arrived + 1;
}

static void on_call(int sig)
{
    (void)sig;
    arrive(NULL);
}

static void *serve(void *arg)
{
    if (aerokernel) {
        need(ak_attach() == 0, "ak_attach");
        other_cpu = ak_cpu();
        ready = true;
        ak_cpu_serve();
    }
    ready = true;
    for (;;)
        __builtin_ia32_pause();
    return arg;
}

static void call(void)
{
    expected++;
    if (aerokernel)
        need(ak_cpu_call(other_cpu, arrive, NULL) == 0, "ak_cpu_call");
    else
        pthread_kill(other, SIGUSR1);
    while (arrived != expected)
        __builtin_ia32_pause();
}

static double interrupt(void)
{
    signal(SIGUSR1, on_call);
    errno = pthread_create(&other, NULL, serve, NULL);
    need(errno == 0, "pthread_create");
    while (!ready)
        usleep(1000);
    return timed(call);
}

// ---- Memory and time ----------------------------------------------------------------------------

enum { ORDER = 4 };

static void block(void)
{
    size_t size = (size_t)PAGE << ORDER;
    char *pages =
        aerokernel ? ak_pages_alloc(ORDER)
                   : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(pages && pages != MAP_FAILED, "memory");
    for (size_t at = 0; at < size; at += PAGE)
        pages[at] = 1;
    if (aerokernel)
        ak_pages_free(pages);
    else
        munmap(pages, size);
}

static void object(void)
{
    void *made = aerokernel ? ak_alloc(100) : malloc(100);
    __asm__ volatile("" : : "r"(made) : "memory");
    if (aerokernel)
        ak_free(made);
    else
        free(made);
}

static void read_clock(void)
{
    if (aerokernel)
        ak_clock();
    else
        now_ns();
}

static int timer_fd;
static struct ak_timer timer;

static void no_alarm(void *arg)
{
    (void)arg;
}

static void set_timer(void)
{
    static const struct itimerspec hour = {.it_value.tv_sec = 3600}, never;
    if (aerokernel) {
        ak_timer_start(&timer, ak_clock() + 3600000000000, no_alarm, NULL);
        ak_timer_stop(&timer);
    } else {
        timerfd_settime(timer_fd, 0, &hour, NULL);
        timerfd_settime(timer_fd, 0, &never, NULL);
    }
}

static double timer_set(void)
{
    timer_fd = timerfd_create(CLOCK_MONOTONIC, 0);
    return timed(set_timer);
}

static double of_system_call(void)
{
    return timed(system_call);
}
static double of_thread(void)
{
    return timed(thread);
}
static double of_block(void)
{
    return timed(block);
}
static double of_object(void)
{
    return timed(object);
}
static double of_clock(void)
{
    return timed(read_clock);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double (*fn)(void);
    } all[] = {
        {"system_call", of_system_call},
        {"fault", fault},
        {"protect", one_protect},
        {"barrier", write_barrier},
        {"barrier_by_signal", write_barrier_by_signal},
        {"event", event},
        {"thread", of_thread},
        {"interrupt", interrupt},
        {"block", of_block},
        {"object", of_object},
        {"clock", of_clock},
        {"timer", timer_set},
    };
    aerokernel = ak_attach() == 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (argc > 1 && strcmp(argv[1], all[i].name) == 0) {
            printf("%s_ns %.2f\n", all[i].name, all[i].fn());
            return 0;
        }
    fputs("usage: kernel WHAT\n", stderr);
    return 2;
}
