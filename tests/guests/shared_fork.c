// Proves that memory is shared between a parent and its forked child where it is MAP_SHARED, and
// only there: futexes, process-shared mutexes and atomics work across, private memory is copied.
#include "guest.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

struct shared {
    uint32_t turn;
    uint64_t count;
    pthread_mutex_t mutex;
    uint64_t total;
};

static void wait_turn(struct shared *shared, uint32_t mine)
{
    uint32_t now;
    while ((now = __atomic_load_n(&shared->turn, __ATOMIC_SEQ_CST)) != mine)
        syscall(SYS_futex, &shared->turn, FUTEX_WAIT, now, NULL, NULL, 0);
}

static void pass_turn(struct shared *shared, uint32_t next)
{
    __atomic_store_n(&shared->turn, next, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void play(struct shared *shared, uint32_t mine)
{
    for (int i = 0; i < 500; i++) {
        wait_turn(shared, mine);
        shared->count = shared->count * 3 + mine + 1;
        pass_turn(shared, !mine);
    }
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&shared->mutex);
        shared->total++;
        pthread_mutex_unlock(&shared->mutex);
    }
}

int main(void)
{
    int fd = memfd_create("shared", 0);
    NEED(fd >= 0 && ftruncate(fd, PAGE) == 0);
    int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
    NEED(id >= 0);
    void *maps[] = {
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
        shmat(id, NULL, 0),
    };
    NEED(shmctl(id, IPC_RMID, NULL) == 0);
    static uint64_t private = 5;
    for (unsigned i = 0; i < COUNT(maps); i++) {
        struct shared *shared = maps[i];
        NEED(shared != MAP_FAILED);
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        NEED(pthread_mutex_init(&shared->mutex, &attr) == 0);
        pid_t child = fork();
        if (child == 0) {
            private = 6;
            play(shared, 1);
            _exit(private == 6 ? 0 : 1);
        }
        play(shared, 0);
        wait_and_say("child", child);
        say("shared", "count %lx total %lu private %lu", shared->count, shared->total, private);
    }

    // What the child maps after the fork is its own; what it changes in private memory, too.
    char *copied = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(copied != MAP_FAILED);
    memset(copied, 1, 8 << 20);
    pid_t child = fork();
    if (child == 0) {
        long sum = 0;
        for (long i = 0; i < 8 << 20; i += PAGE) {
            sum += copied[i];
            copied[i] = 3;
        }
        munmap(copied, 4 << 20);
        _exit(sum == (8 << 20) / (long)PAGE ? 11 : 12);
    }
    for (long i = 0; i < 8 << 20; i += PAGE)
        copied[i]++;
    wait_and_say("child", child);
    say("copied", "%d %d", copied[0], copied[(8 << 20) - PAGE]);
    return 0;
}
