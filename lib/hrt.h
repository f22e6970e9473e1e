// What the files of libmultiverse share.
#ifndef MV_LIB_HRT_H
#define MV_LIB_HRT_H

#include <pthread.h>
#include <stdlib.h>

#include "abi/attach.h"
#include "base/context.h"

// What programs call.
#pragma GCC visibility push(default)
#include "multiverse.h"
#pragma GCC visibility pop

// States of a thread's request: none, or it has been executed; to be executed; none, and the thread
// sleeps; the thread shall end. WAITED is added to POSTED when the caller sleeps.
enum { IDLE, POSTED, ASLEEP, QUIT, WAITED = 8 };

enum { CACHE_LINE = 64, THREADS_MAX = 64 };

// What is exchanged with a thread, in one piece: were it stored word by word, the side that looks
// at the line would take it away in between.
union request {
    struct {
        uint32_t state; // futex
        union {
            uint32_t wide;   // not a function, but a struct mv_call
            uint32_t status; // when it has been executed: 0 or -EFAULT
        };
        uint64_t what; // function or call; when it has been executed: the result
    };
    unsigned __int128 all;
};

// A thread of the HRT and the request that it executes. The first line goes forth and back between
// caller and thread with each call, the second one stays with both as long as the caller is the
// same.
struct worker {
    union request request;
    uint64_t args[6];

    uint64_t fs_base __attribute__((aligned(CACHE_LINE))); // the caller's, 0: the thread's own
    struct mv_task *task;                                  // that is being executed, if any

    uint32_t owned __attribute__((aligned(CACHE_LINE))); // by a caller, or for a task

    struct mv_context saved __attribute__((aligned(CACHE_LINE))); // where a fault goes on
    struct mv_context unwound;                                    // where one of the unwinder does
    bool unwinding;                                               // it is at work, after a fault
    struct mv_fault fault;
    struct mv_hrt *hrt;
    char *stack, *stack_end; // what mv_in_hrt() goes by
    char *altstack;
    pthread_t thread;
    bool started;
    int begun; // 1: it answers; negative errno: it could not enter
};

struct mv_task {
    uint32_t done; // futex
    int status;
    struct mv_call *call;
    struct mv_task *next;
};

enum phase { PHASE_NONE, PHASE_OPEN, PHASE_CLOSING, PHASE_CLOSED, PHASE_FORKED };

struct mv_hrt {
    enum phase phase;
    int ring;
    bool within; // the process is an HRT already, or none can be made: threads need not enter
    unsigned threads;
    size_t stack_size;
    struct mv_attach_answer core;
    void *region; // the core's
    size_t region_size;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    unsigned waiting;      // for a thread
    struct mv_task *first; // that waits for a thread
    struct worker workers[THREADS_MAX];
};

enum { ALTSTACK_SIZE = 64 << 10 };

// hrt.c
struct mv_hrt *the_hrt(void);
// The thread answers from now on, or could not enter.
void worker_begun(struct worker *worker, int err);
// Make the fault the calling thread's last. Returns -EFAULT.
int report_fault(const struct mv_fault *fault);

// load.c: map the core at `path` and attach it. Errors: negative errno, with
// mv_error() set.
int load_core(struct mv_hrt *hrt, const char *path, const char *config);
void unload_core(struct mv_hrt *hrt);

// error.c
int fail(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));

// worker.c: what runs in the HRT.
void worker_loop(struct worker *worker);
void worker_fault(int sig, void *info, void *context);
void worker_restorer(void);
// Have the task executed, or the thread end: POSTED or QUIT.
void worker_post(struct worker *worker, uint32_t state);
// Have a function executed with worker->args, or a call (wide), and wait for its end. Returns 0 or
// -EFAULT.
int worker_execute(struct worker *worker, bool wide, uint64_t what, uint64_t *result);

// invoke.S
void invoke(struct mv_call *call);
int64_t core_request(uint64_t what, uint64_t a, uint64_t b);

#endif
