// Makes known numbers of calls from known functions: the words of the command line say which.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone))

static volatile long sink;

static APART void hundred_parents(void)
{
    for (int i = 0; i < 100; i++)
        sink += syscall(SYS_getppid);
}

static APART void five_hundred_users(void)
{
    for (int i = 0; i < 500; i++)
        sink += syscall(SYS_getuid);
}

static APART void outer(void)
{
    hundred_parents();
    five_hundred_users();
    sink++; // no tail call: this function stays on the stack
}

static APART void many(void)
{
    for (int i = 0; i < 70000; i++)
        sink += syscall(SYS_getppid);
}

static void *two_hundred_users(void *argument)
{
    for (int i = 0; i < 200; i++)
        sink += syscall(SYS_getuid);
    return argument;
}

static APART void threads(void)
{
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&thread[i], NULL, two_hundred_users, NULL))
            abort();
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
}

static APART void call_jitted(long (*code)(void))
{
    for (int i = 0; i < 64; i++)
        sink += code();
}

// Code that no file is behind; with a name for it, where perf expects one, if `named`.
static APART void jit(int named)
{
    static const uint8_t getpgrp_code[] = {0xb8, SYS_getpgrp, 0, 0, 0, 0x0f, 0x05, 0xc3};
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        abort();
    memcpy(code, getpgrp_code, sizeof(getpgrp_code));
    if (mprotect(code, 4096, PROT_READ | PROT_EXEC))
        abort();
    if (named) {
        char path[64];
        snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
        FILE *file = fopen(path, "w");
        if (!file)
            abort();
        fprintf(file, "%lx 8 made_up_function\n", (unsigned long)code);
        fclose(file);
    }
    call_jitted((long (*)(void))code);
}

static APART void map_and_unmap(void)
{
    for (int i = 0; i < 50; i++) {
        char *memory =
            mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            abort();
        memory[i] = 1;
        munmap(memory, 1 << 20);
    }
}

static APART void sleep_thrice(void)
{
    struct timespec time = {.tv_nsec = 20000000};
    for (int i = 0; i < 3; i++)
        nanosleep(&time, NULL);
}

static APART void fork_and_wait(void)
{
    pid_t child = fork();
    if (child == 0) {
        hundred_parents();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "outer") == 0)
            outer();
        else if (strcmp(argv[i], "many") == 0)
            many();
        else if (strcmp(argv[i], "threads") == 0)
            threads();
        else if (strcmp(argv[i], "jit") == 0 || strcmp(argv[i], "named") == 0)
            jit(argv[i][0] == 'n');
        else if (strcmp(argv[i], "memory") == 0)
            map_and_unmap();
        else if (strcmp(argv[i], "sleep") == 0)
            sleep_thrice();
        else if (strcmp(argv[i], "fork") == 0)
            fork_and_wait();
        else if (strcmp(argv[i], "exec") == 0)
            execl(argv[0], argv[0], "outer", NULL);
        else if (strcmp(argv[i], "killed") == 0)
            kill(getpid(), SIGKILL);
        else if (strcmp(argv[i], "segv") == 0)
            *(volatile int *)0 = 1;
        else if (strcmp(argv[i], "output") == 0)
            puts("output of the program");
        else
            return 3;
    }
    return 0;
}
