// The monitor of native programs: makes a virtual machine that is the program's alone, starts it by
// the protocol of abi/boot.h, and answers what it asks for. The `kernel` command of the core.
#ifndef MV_MONITOR_MONITOR_H
#define MV_MONITOR_MONITOR_H

#include "base/lock.h"
#include "hvm/hvm.h"
#include "native/layout.h"

enum { MON_REPORT_MAX = 4096 }; // bytes of a report's text

// Guest physical address of the doorbell, where no memory is.
#define MON_DOORBELL_GPA 0xd0000000ULL

// The CONFIG argument: comma-separated key=value.
struct mon_config {
    unsigned memory_mib; // memory=MIB
    unsigned cpus;       // cpus=N
    unsigned phys_bits;  // physbits=N; 0: as the processor has
    int ring;            // ring=auto|0|3; auto is -1
    int report_fd; // report=FD: where a report goes; -1: to stderr, if it is none of a mere exit
};

struct mon_cpu {
    struct hvm_vcpu vcpu;
    uint64_t window;
    const struct mv_call *call; // as the program has written it
    uint32_t woken;             // futex word: MV_CALL_WAKE has come
};

struct mon_machine {
    struct mon_config config;
    struct hvm hvm;
    struct mv_boot_range memory[2]; // guest physical, below and above the hole for devices
    unsigned ranges;
    char *host[2];
    struct mv_native program; // copied from the image and checked
    struct nl_layout layout;
    struct mv_lock tables_lock; // of layout.paging
    unsigned ring;
    struct mon_cpu cpu[MV_NATIVE_CPUS_MAX];
};

extern struct mon_machine mon;

// Where memory of the machine [gpa, gpa+size) is, or NULL if not all of it is memory.
char *mon_memory(uint64_t gpa, uint64_t size);

// image.c: load the file, and list its segments (at most LDR_SEGMENTS_MAX). Dies with 125, 126 or
// 127. Returns the first address behind it.
uint64_t mon_load(const char *path, struct nl_segment *segment, unsigned *segments);

// machine.c: make the machine with the program in it, ready to run. Dies with 125 or as mon_load().
void mon_make(const char *path, char **argv);

// run.c: run all virtual CPUs; ends the process with the program's status.
_Noreturn void mon_run(void);

// report.c: end the process, with a report that the program gives, or that is made of its state.
_Noreturn void mon_end(int status, const char *text, size_t size);
_Noreturn void mon_end_failed(struct mon_cpu *cpu, struct hvm_exit exit);

// The command (command.c): args are CONFIG, the program's file, and its arguments from argv[0] on.
_Noreturn void mon_command(char **args);

#endif
