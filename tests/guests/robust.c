// Proves that robust mutexes whose owner dies are handed on with EOWNERDEAD: an owner that is a
// thread, and owners that are processes ended by exit, by SIGKILL and by execve, or threads of
// such. And that each thread has a list of its own, which a thread without one does not inherit.
#include "guest.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static pthread_mutex_t *mutex;

static void *die_holding(void *arg)
{
    (void)arg;
    pthread_mutex_lock(mutex);
    return NULL;
}

static struct robust_list_head *list_of(pid_t tid)
{
    struct robust_list_head *head = NULL;
    size_t size = 0;
    NEED(syscall(SYS_get_robust_list, tid, &head, &size) == 0);
    return head;
}

static void *list_of_self(void *arg)
{
    (void)arg;
    return list_of(gettid());
}

static void *other_list(void *arg)
{
    static struct robust_list_head other = {.list = {&other.list}};
    NEED(syscall(SYS_set_robust_list, &other, sizeof(other)) == 0);
    bool right = list_of(0) == &other;
    NEED(syscall(SYS_set_robust_list, arg, sizeof(other)) == 0);
    right = right && list_of(0) == arg;
    NEED(syscall(SYS_set_robust_list, &other, sizeof(other)) == 0);
    return right && list_of(0) == &other ? arg : NULL;
}

static volatile uint32_t raw_tid;
static struct robust_list_head *raw_list = (void *)1, *dead_list;
static bool raw_set;

static int raw_thread(void *arg)
{
    (void)arg;
    struct robust_list_head *head = NULL;
    size_t size;
    syscall(SYS_get_robust_list, 0, &head, &size);
    raw_list = head;
    raw_set = !syscall(SYS_set_robust_list, dead_list, sizeof(*dead_list)) &&
              !syscall(SYS_get_robust_list, 0, &head, &size) && head == dead_list;
    syscall(SYS_exit, 0);
    return 0;
}

// Threads one after another, which use the same core's memory again.
static void lists(void)
{
    enum { THREADS = 40, STACK = 65536 };
    bool own = true, kept = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        void *head;
        NEED(pthread_create(&thread, NULL, list_of_self, NULL) == 0);
        NEED(pthread_join(thread, &head) == 0);
        // The thread's control block is at its thread pointer; the list lies in it.
        dead_list = head;
        own = own && (uintptr_t)head - (uintptr_t)thread < PAGE;
        struct robust_list_head own_head = {.list = {&own_head.list}};
        NEED(pthread_create(&thread, NULL, other_list, &own_head) == 0);
        NEED(pthread_join(thread, &head) == 0);
        kept = kept && head;
    }
    say("each its own list", "%s", yes(own));
    say("or what it sets", "%s", yes(kept));

    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(stack != MAP_FAILED);
    raw_tid = 1;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                CLONE_CHILD_CLEARTID;
    NEED(clone(raw_thread, stack + STACK, flags, NULL, NULL, NULL, &raw_tid) > 0);
    while (raw_tid)
        syscall(SYS_futex, &raw_tid, FUTEX_WAIT, 1, NULL, NULL, 0);
    say("a thread without one", "%s", raw_list ? "has one" : "has none");
    say("it gets that of a dead thread", "%s", yes(raw_set));
    struct robust_list_head *parents = list_of(0);
    pid_t child = fork();
    if (child == 0) // its C library has given Linux the list again
        _exit(list_of(0) == parents);
    wait_and_say("a child's is at the same address", child);
}

static void *die_with_process(void *arg)
{
    int ready = *(int *)arg;
    pthread_mutex_lock(mutex);
    NEED(write(ready, "x", 1) == 1);
    pause();
    return NULL;
}

static void take_over(const char *name)
{
    int error = pthread_mutex_lock(mutex);
    say(name, "%s", error ? error_name(error) : "locked");
    if (error == EOWNERDEAD)
        NEED(pthread_mutex_consistent(mutex) == 0);
    NEED(pthread_mutex_unlock(mutex) == 0);
}

int main(void)
{
    static const char *const names[] = {"process exited", "process killed", "process execed",
                                        "with its process killed", "with its process ended"};
    mutex = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(mutex != MAP_FAILED);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    NEED(pthread_mutex_init(mutex, &attr) == 0);

    pthread_t thread;
    NEED(pthread_create(&thread, NULL, die_holding, NULL) == 0);
    pthread_join(thread, NULL);
    take_over("thread died");
    lists();
    for (int i = 0; i < 3; i++) {
        NEED(pthread_create(&thread, NULL, die_holding, NULL) == 0);
        pthread_join(thread, NULL);
        take_over("another thread died");
    }

    for (int way = 0; way < 5; way++) {
        int ready[2];
        NEED(pipe(ready) == 0);
        pid_t child = fork();
        if (child == 0 && way > 2) {
            NEED(pthread_create(&thread, NULL, die_with_process, &ready[1]) == 0);
            pause();
        }
        if (child == 0) {
            pthread_mutex_lock(mutex);
            NEED(write(ready[1], "x", 1) == 1);
            if (way == 0)
                _exit(3);
            if (way == 1)
                pause();
            execl("/bin/true", "true", (char *)NULL);
            _exit(9);
        }
        char byte;
        NEED(read(ready[0], &byte, 1) == 1);
        if (way == 1 || way > 2) {
            pass_ms(5);
            kill(child, way == 4 ? SIGTERM : SIGKILL);
        }
        take_over(names[way]);
        wait_and_say("it ended by", child);
    }
    return 0;
}
