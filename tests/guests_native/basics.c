// A native program that does what its first argument says.
#include <aerokernel.h>
#include <aerokernel/native.h>
#include <string.h>

static int constructed;
static char zeros[100000];
static int data[] = {3, 1, 4};

__attribute__((constructor)) static void construct(void)
{
    constructed++;
}

static int number(const char *text)
{
    int value = 0;
    for (; *text; text++)
        value = value * 10 + *text - '0';
    return value;
}

static int arguments(int argc, char **argv)
{
    ak_print("%d %d", argc, argv[argc] == NULL);
    for (int i = 1; i < argc; i++)
        ak_print("[%s]", argv[i]);
    return 0;
}

static int image(void)
{
    int sum = 0;
    for (size_t i = 0; i < sizeof(zeros); i++)
        sum += zeros[i];
    ak_print("constructed %d, data %d, zeros %d", constructed, data[0] + data[1] + data[2], sum);
    return 0;
}

static void *leave(void *arg)
{
    ak_exit((int)(size_t)arg);
}

// From a thread of the last virtual CPU, while main() waits.
static int leave_from_thread(void)
{
    struct ak_thread *thread;
    struct ak_thread_options options = {.cpu = ak_cpu_count() - 1};
    if (ak_thread_create(&thread, leave, (void *)77, &options))
        return 1;
    ak_thread_join(thread);
    return 2;
}

static void *sum_up(void *arg)
{
    double x = (double)(size_t)arg, sum = 0;
    float lanes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (int i = 0; i < 100; i++) {
        for (int lane = 0; lane < 8; lane++)
            lanes[lane] = lanes[lane] * 0.5f + (float)x;
        sum += (double)lanes[i % 8];
        ak_yield();
    }
    return (void *)(size_t)(sum * 1000);
}

static int floating_point(void)
{
    struct ak_thread *thread[4];
    for (size_t i = 0; i < 4; i++)
        if (ak_thread_create(&thread[i], sum_up, (void *)(i + 1), NULL))
            return 1;
    for (int i = 0; i < 4; i++)
        ak_print("%lu", (unsigned long)(size_t)ak_thread_join(thread[i]));
    return 0;
}

// Take all memory, give it back, take the same again.
static int use_up_memory(void)
{
    unsigned long count[2] = {0, 0};
    for (int round = 0; round < 2; round++) {
        void *list = NULL, *page;
        for (; (page = ak_pages_alloc(0)); count[round]++) {
            *(void **)page = list;
            list = page;
        }
        struct ak_thread *thread;
        if (ak_thread_create(&thread, sum_up, NULL, NULL) == 0 || ak_pages_alloc(3))
            return 1;
        while (list) {
            page = list;
            list = *(void **)page;
            ak_pages_free(page);
        }
    }
    ak_print("%d %d", count[0] > 4000, count[0] == count[1]);
    return 0;
}

static int deep(int n)
{
    volatile char room[1000];
    room[0] = (char)n;
    return n < 0 ? 0 : deep(n + 1) + room[0];
}

static void *overrun(void *arg)
{
    volatile char room[1 << 16];
    for (size_t i = 0; i < sizeof(room); i++)
        room[i] = 1;
    ak_yield();
    return (void *)(size_t)(arg != NULL && room[512]);
}

static int overrun_thread(void)
{
    struct ak_thread *thread;
    if (ak_thread_create(&thread, overrun, NULL, NULL))
        return 1;
    ak_thread_join(thread);
    return 0;
}

static bool refuse(const struct ak_fault *fault, void *arg)
{
    ak_print("asked about %s", fault->write ? "a write" : "a read");
    return arg != NULL;
}

__attribute__((noinline)) static int fault(const char *how)
{
    volatile int zero = 0;
    if (strcmp(how, "read") == 0)
        return *(volatile int *)(size_t)(zero + 16);
    if (strcmp(how, "write") == 0)
        *(volatile int *)(size_t)(zero + 8) = 1;
    if (strcmp(how, "code") == 0)
        *(volatile char *)(size_t)ak_print = 1;
    if (strcmp(how, "data") == 0)
        ((void (*)(void))(size_t)data)();
    if (strcmp(how, "null") == 0)
        ((void (*)(void))(size_t)zero)();
    if (strcmp(how, "far") == 0)
        return *(volatile int *)(zero + 0x7ffffffff000);
    if (strcmp(how, "noncanonical") == 0)
        return *(volatile int *)((size_t)zero + 0x8000000000000000);
    if (strcmp(how, "divide") == 0)
        return 7 / zero;
    if (strcmp(how, "invalid") == 0)
        __asm__ volatile("ud2");
    if (strcmp(how, "breakpoint") == 0)
        __asm__ volatile("int3");
    if (strcmp(how, "syscall") == 0)
        __asm__ volatile("syscall" : : "a"(39) : "rcx", "r11");
    if (strcmp(how, "stack") == 0)
        __asm__ volatile("xor %%esp, %%esp; push $1" : : : "memory");
    if (strcmp(how, "handler") == 0) {
        char *page = ak_pages_alloc(0);
        if (ak_page_prepare(page, AK_PAGE_SIZE) ||
            ak_fault_handle(page, AK_PAGE_SIZE, refuse, NULL) ||
            ak_page_protect(page, AK_PAGE_SIZE, AK_PAGE_READ))
            return 1;
        *(volatile char *)page = 1;
    }
    return 0;
}

// Tables where none are: no exception can be delivered.
__attribute__((noinline)) static int triple_fault(void)
{
    if (ak_ring())
        return 3;
    struct {
        unsigned short limit;
        unsigned long base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
    return 1;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *how = argc > 2 ? argv[2] : "";
    if (strcmp(what, "status") == 0)
        return number(how);
    if (strcmp(what, "arguments") == 0)
        return arguments(argc, argv);
    if (strcmp(what, "image") == 0)
        return image();
    if (strcmp(what, "leave") == 0)
        return leave_from_thread();
    if (strcmp(what, "floating") == 0)
        return floating_point();
    if (strcmp(what, "memory") == 0)
        return use_up_memory();
    if (strcmp(what, "fault") == 0)
        return fault(how);
    if (strcmp(what, "overrun") == 0)
        return *how ? overrun_thread() : deep(0);
    if (strcmp(what, "triple") == 0)
        return triple_fault();
    if (strcmp(what, "cpus") == 0)
        ak_print("%u", ak_cpu_count());
    if (strcmp(what, "ring") == 0)
        ak_print("%u", ak_ring());
    if (strcmp(what, "spin") == 0) {
        ak_print("spinning");
        for (;;)
            ak_cpu();
    }
    if (strcmp(what, "wait") == 0) {
        struct ak_event never = {0};
        ak_print("waiting");
        ak_event_wait(&never);
    }
    if (strcmp(what, "lines") == 0)
        for (int i = 0; i < number(how); i++)
            ak_print("line %d", i);
    if (strcmp(what, "bytes") == 0)
        ak_console_write("\0\1\r\xff", 4);
    return 0;
}
