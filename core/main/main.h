// From the process's start to the program's first instruction.
#ifndef MV_MAIN_MAIN_H
#define MV_MAIN_MAIN_H

#include "abi/attach.h"
#include "abi/fat.h"
#include "base/keys.h"
#include "base/types.h"
#include "loader/elf.h"
#include "ros/channel.h"

enum { MV_TEXT_BYTES = 4096 };

// The CONFIG argument: comma-separated key=value (docs/architecture.md, "Starting the core").
struct mv_config {
    bool off;      // hvm=off: run natively
    bool require;  // require=1: 125 rather than native
    bool quiet;    // quiet=1: no line when running natively
    bool follow;   // follow=1: execve starts an HRT again
    bool loadonly; // loadonly=1: everything up to the first instruction, then exit 0
    unsigned phys_bits;
    int ring;                           // -1: as measured
    int stats_fd, trace_fd, profile_fd; // stats=FD, trace=FD, profile=FD: shared; -1: none
    int debug_fd, debug_socket;        // debug=FD, debugsocket=FD: shared with a debugger; -1: none
    int override_fd;                   // override=FD: modules (abi/override.h); -1: none
    struct ros_channel_config channel; // channel=auto|sync|async, pollers=N, roscpus=0xMASK
    struct ros_cpus hrt_cpus;          // hrtcpus=0xMASK; empty: as inherited
    // memoryhigh=MIB: what override modules keep of freed memory; 0: a part of the machine's
    unsigned memory_high;
    bool populate_off;   // populate=off: no page is made present before it is touched
    unsigned hrt_memory; // hrtmemory=MIB: for the AeroKernel's allocators; 0: no limit
    // crash=off|raw|DESTINATION, python=PATH (docs/crash-reports.md); empty: off, and none.
    char crash[MV_TEXT_BYTES], python[MV_TEXT_BYTES];
};

// Parse CONFIG. Returns false on an unknown key or a wrong value and says in `wrong` which.
bool mv_config_parse(const char *text, struct mv_config *ret, char wrong[MV_KEYS_WRONG]);

// The CONFIG for programs that this one executes: the same, but silent, and without what belongs
// to one process.
void mv_config_inherit(const char *text, char *ret, size_t size);

// What execve(2) left on the stack.
struct mv_arguments {
    uint64_t argc;
    char **argv, **envp;
    uint64_t *auxv; // pairs, terminated by AT_NULL
};

// What a program is started from: the file given, and for scripts the interpreters in between.
struct mv_program {
    const char *path;                 // as given: AT_EXECFN
    const char *file;                 // the ELF file
    char **argv;                      // with the script's words in front
    struct ldr_image *image, *interp; // interp: NULL without PT_INTERP
};

// Go on in the region. adoption: NULL where Linux has started the core, with `stack` as it left it.
void mv_relocate(struct mv_adoption *adoption, uint64_t *stack);
// First code in the region; old, size: the image that was mapped.
void mv_arrive(struct mv_adoption *adoption, uint64_t *stack, uint64_t old, uint64_t size);

// Make an HRT of the process that has called (adopt.c); argument: a struct mv_adoption. Does not
// return: the program goes on in the HRT, or the call fails.
_Noreturn void mv_adopt(void *argument);
// The call fails: `what` and a negative errno.
_Noreturn void mv_adopt_refuse(struct mv_adoption *adoption, const char *what, int err);
_Noreturn void mv_adopt_return(struct mv_adoption *adoption, int result);

// Take the signals over and run the group, whose frame, bases and sighand are set. begin: when the
// making of the HRT began, in TSC cycles.
_Noreturn void mv_begin(struct ros_group *group, uint64_t begin);

// Build the initial stack below `stack` (program.c). Returns the program's stack pointer.
uint64_t mv_build_stack(const struct mv_arguments *args, const struct mv_program *program);
// Resolve scripts and open the files; dies with 126 or 127. Returns 0, or -ENOEXEC for an ELF file
// of another kind, which Linux may still be able to run.
int mv_program_open(const char *path, char **argv, struct mv_program *ret, const char **why);
// Map everything and tell Linux about the new program; dies with 125 or 126.
void mv_program_map(struct mv_program *program);
void mv_program_announce(const struct mv_arguments *args, const struct mv_program *program,
                         uint64_t stack);

// The routes command: system calls that a poller may answer, number=condition a line.
_Noreturn void mv_routes(void);

// What was measured of the substrate, in TSC cycles: an instruction at CPL 0, an exit (measure.c).
struct mv_costs {
    uint64_t cpl0_cycles, exit_cycles;
};

// Open the substrate, make the VM, its tables, the first group, and decide the ring. Returns 0 or a
// negative errno; *what says what failed.
int mv_make_hvm(const struct mv_config *config, struct ros_group **ret, const char **what,
                struct mv_costs *costs);
// What to do when that has failed, in words.
const char *mv_hvm_advice(const struct mv_config *config);

// Make an HRT for single threads of the process (attach.c). Returns 0 or a negative errno; *what
// says what failed.
int mv_attach(const struct mv_attach_request *request, struct mv_attach_answer *answer,
              const char **what);

// The latency command (latency.c): samples in TSC cycles, KEY=SAMPLE,... in one or more lines a
// key. Dies with 125 where no HRT is possible. Never returns.
_Noreturn void mv_latency(const struct mv_config *config);

// The crash command (reporter.c): args are a descriptor, a destination and an interpreter.
_Noreturn void mv_report(char **args, char **envp);

// The probe command: facts about the substrate, one key=value a line. Never returns.
_Noreturn void mv_probe(const struct mv_config *config);

#endif
