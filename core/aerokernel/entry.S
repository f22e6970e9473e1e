// The AeroKernel's entry points. Both pages are position independent and are copied as they are
// into guest memory; labels below are used as offsets into their page only.

#include "abi/channel.h"
#include "abi/frame.h"

#define FLAG_TF 0x100
#define FLAG_IF 0x200

// Addresses within the window of the virtual CPU that executes the alias of this page.
#define FRAME(field) (ak_entry_page + AK_FRAME_OFFSET + MV_FRAME_##field)(%rip)
#define SLOT(field) (ak_entry_page + AK_SLOT_OFFSET + MV_SLOT_##field)(%rip)
#define STAMP(field) (ak_entry_page + AK_STAMP_OFFSET + MV_STAMP_##field)(%rip)
#define TRAP(field) (ak_entry_page + AK_TRAP_OFFSET + MV_FRAME_##field)(%rip)
#define TRAP_WORD(field) (ak_entry_page + AK_TRAP_OFFSET + MV_TRAP_##field)(%rip)
#define DOORBELL (ak_entry_page + AK_DOORBELL_OFFSET)(%rip)

// What a page fault has pushed, by words from the top of its stack.
#define PUSHED(word) (ak_entry_page + AK_IST_OFFSET + AK_IST_BYTES - 8 * (word))(%rip)
#define PUSHED_RSP 2
#define PUSHED_RFLAGS 3
#define PUSHED_RIP 5
#define PUSHED_ERROR 6
#define PUSHED_RDX 7
#define PUSHED_RCX 8
#define PUSHED_CR2 9

// The same for all virtual CPUs.
#define IMAGE(field) (AK_KERNEL + AK_IMAGE_##field)
#define CONTROL(field) (AK_CONTROL_PAGE + MV_CONTROL_##field)

    .section .aerokernel, "ax", @progbits
    .balign 4096
    .globl ak_entry_page, ak_vector_page, ak_image_end
    .globl ak_call_saved, ak_syscall_entry, ak_request, ak_consumed, ak_asynchronous
    .globl ak_doorbell, ak_answered, ak_port, ak_entry_end, ak_probe
    .globl ak_stamp, ak_stamp_saved, ak_stamp_end
    .hidden ak_stamp, ak_stamp_saved, ak_stamp_end
    .globl ak_local, ak_local_saved, ak_trap_entry, ak_trap_saved, ak_trap_end
    .globl ak_done, ak_trap_forward, ak_forward
    .hidden ak_done, ak_trap_forward, ak_forward
    .globl ak_syscall_return, ak_page_fault_ring0, ak_page_fault_ring3, ak_page_fault_interpreted
    .hidden ak_local, ak_local_saved, ak_trap_entry, ak_trap_saved, ak_trap_end
    .hidden ak_syscall_return, ak_page_fault_ring0, ak_page_fault_ring3, ak_page_fault_interpreted
    .hidden ak_entry_page, ak_vector_page, ak_image_end
    .hidden ak_call_saved, ak_syscall_entry, ak_request, ak_consumed, ak_asynchronous
    .hidden ak_doorbell, ak_answered, ak_port, ak_entry_end, ak_probe

    .macro SAVE_TO_FRAME                // RIP, RSP and flags are there
    mov %r15, FRAME(R15)
    mov %r14, FRAME(R14)
    mov %r13, FRAME(R13)
    mov %r12, FRAME(R12)
    mov %rbp, FRAME(RBP)
    mov %rbx, FRAME(RBX)
    mov FRAME(RFLAGS), %r11
    mov %r11, FRAME(R11)
    mov %r10, FRAME(R10)
    mov %r9, FRAME(R9)
    mov %r8, FRAME(R8)
    mov %rax, FRAME(RAX)
    mov FRAME(RIP), %rcx
    mov %rcx, FRAME(RCX)
    mov %rdx, FRAME(RDX)
    mov %rsi, FRAME(RSI)
    mov %rdi, FRAME(RDI)
    .endm

ak_entry_page:
    // Where rewritten system-call sites jump to (core/rewrite): RCX holds the return address, RSP
    // and all other registers but R11 are the program's, and so are the flags, which only PUSHF
    // can read: its stack is the frame, since the program's may be used up or gone.
ak_call_entry:
    mov %rsp, FRAME(RSP)
    lea (ak_entry_page + AK_FRAME_OFFSET + MV_FRAME_RFLAGS + 8)(%rip), %rsp
    pushfq
    mov FRAME(RSP), %rsp
    mov %rcx, FRAME(RIP)
ak_call_saved:
    orl $FLAG_IF, FRAME(RFLAGS)
    xor %ecx, %ecx
    jmp ak_request

    // LSTAR for a program at ring 3 where SYSCALL switches to CPL 0: back to CPL 3 behind it. Only
    // RSP has to be given away for that; the rest of what IRETQ takes is always the same.
ak_syscall_return:
    mov %rsp, FRAME(RSP)
    mov %rsp, (ak_entry_page + AK_RETURN_OFFSET + 24)(%rip)
    lea (ak_entry_page + AK_RETURN_OFFSET)(%rip), %rsp
    iretq

    // LSTAR otherwise. SYSCALL put the return address into RCX and the flags into R11 and switched
    // nothing else: RSP is the program's, with its red zone below. At ring 0 this runs at
    // CPL 0; on a KVM that leaves CPL 3 in place, at CPL 3. At CPL 0 the program may have switched
    // interrupts off by POPF, which natively changes nothing: they are on again after each call.
ak_syscall_entry:
    or $FLAG_IF, %r11
    mov %r11, FRAME(RFLAGS)
    mov %rcx, FRAME(RIP)
    mov %rsp, FRAME(RSP)

    // The call has not begun. RCX: where it trapped, or 0. From here to ak_consumed only RCX and
    // R11 change, so that a signal can find the program's state in the registers and the frame.
ak_request:
    cmpl $0, CONTROL(STAMP)
    jne ak_stamp
ak_stamped:
    mov %eax, %r11d
    cmp $MV_ROUTES, %r11d
    jae ak_asynchronous
    testb $MV_ROUTE_LOCAL, CONTROL(ROUTES)(%r11)
    jnz ak_local
ak_forwarded:
    mov %eax, %r11d
    testb $MV_ROUTE_POLLER, CONTROL(ROUTES)(%r11)
    jz ak_asynchronous
    cmpl $0, CONTROL(OPEN)
    je ak_asynchronous
    cmpl $0, FRAME(SYNC)
    je ak_asynchronous
    testl $FLAG_TF, FRAME(RFLAGS)       // single-stepped: the state has to be loaded from outside
    jnz ak_asynchronous
    mov %rdi, SLOT(ARGS)
    mov %rsi, SLOT(ARGS + 8)
    mov %rdx, SLOT(ARGS + 16)
    mov %r10, SLOT(ARGS + 24)
    mov %r8, SLOT(ARGS + 32)
    mov %r9, SLOT(ARGS + 40)
    mov %rcx, SLOT(SITE)
    mov %eax, SLOT(NR)
    sfence                              // a poller reads what the program wrote past the cache, too
    movl $MV_SLOT_POSTED, SLOT(STATE)
    mov CONTROL(SPINS), %ecx
1:  mov SLOT(STATE), %r11d
    cmp $MV_SLOT_POSTED, %r11d
    jne 2f
    pause
    dec %ecx
    jnz 1b
    jmp ak_asynchronous
2:  cmp $MV_SLOT_ANSWERED, %r11d
    jne ak_asynchronous
    mov SLOT(RESULT), %rax
    movl $MV_SLOT_FREE, SLOT(STATE)

    // The call is done: the frame has RIP, RSP and flags, the registers the rest.
ak_consumed:
    lea (ak_entry_page + AK_FRAME_OFFSET + MV_FRAME_RFLAGS)(%rip), %rsp
    popfq
    mov FRAME(RFLAGS), %r11
    mov FRAME(RIP), %rcx
    mov FRAME(RSP), %rsp
    jmp *%rcx

    // Save what a partner needs, and leave.
ak_asynchronous:
    SAVE_TO_FRAME
    cmpq $0, FRAME(RING)
    je ak_port
ak_doorbell:
    movl %eax, DOORBELL

    // From here on (but for the OUT) the frame holds the program's state, whatever the registers
    // hold: the ROS side relies on this when a signal finds the virtual CPU here.
ak_answered:
    lea (ak_entry_page + AK_FRAME_OFFSET + MV_FRAME_STACK_TOP)(%rip), %rsp
    pushq FRAME(RFLAGS)
    popfq
    mov FRAME(R15), %r15
    mov FRAME(R14), %r14
    mov FRAME(R13), %r13
    mov FRAME(R12), %r12
    mov FRAME(RBP), %rbp
    mov FRAME(RBX), %rbx
    mov FRAME(R11), %r11
    mov FRAME(R10), %r10
    mov FRAME(R9), %r9
    mov FRAME(R8), %r8
    mov FRAME(RAX), %rax
    mov FRAME(RCX), %rcx
    mov FRAME(RDX), %rdx
    mov FRAME(RSI), %rsi
    mov FRAME(RDI), %rdi
    mov FRAME(RSP), %rsp
    jmp *FRAME(RIP)
ak_port:
    out %al, $AK_PORT_DOORBELL
    jmp ak_answered

    // For a profile: when the call was made. RDTSC needs two registers.
ak_stamp:
    mov %rax, STAMP(RAX)
    mov %rdx, STAMP(RDX)
    mov %rbp, STAMP(RBP)
ak_stamp_saved:
    rdtsc
    mov %eax, STAMP(TSC)
    mov %edx, STAMP(TSC + 4)
    mov STAMP(RAX), %rax
    mov STAMP(RDX), %rdx
    jmp ak_stamped
ak_stamp_end:
ak_entry_end:

    .macro SAVE_TO_TRAP
    mov %r15, TRAP(R15)
    mov %r14, TRAP(R14)
    mov %r13, TRAP(R13)
    mov %r12, TRAP(R12)
    mov %rbp, TRAP(RBP)
    mov %rbx, TRAP(RBX)
    mov %r10, TRAP(R10)
    mov %r9, TRAP(R9)
    mov %r8, TRAP(R8)
    mov %rax, TRAP(RAX)
    mov %rsi, TRAP(RSI)
    mov %rdi, TRAP(RDI)
    .endm
    .macro LOAD_FROM_TRAP               // what a C function may have changed
    mov TRAP(R10), %r10
    mov TRAP(R9), %r9
    mov TRAP(R8), %r8
    mov TRAP(RAX), %rax
    mov TRAP(RDX), %rdx
    mov TRAP(RSI), %rsi
    mov TRAP(RDI), %rdi
    mov TRAP(RSP), %rsp
    .endm
    .macro COPY from, to, by
    mov \from, \by
    mov \by, \to
    .endm

    // A system call that the AeroKernel may be able to answer. As at ak_request.
ak_local:
    cmpl $MV_TRAP_NONE, TRAP_WORD(ACTIVE)
    jne ak_forwarded                    // it is a module that asks Linux
    SAVE_TO_TRAP
    mov %rcx, TRAP_WORD(SITE)
    mov %rdx, TRAP(RDX)
    COPY FRAME(RSP), TRAP(RSP), %r11
    COPY FRAME(RFLAGS), TRAP(RFLAGS), %r11
    mov %r11, TRAP(R11)
    COPY FRAME(RIP), TRAP(RIP), %rcx
    mov %rcx, TRAP(RCX)
    movl $MV_TRAP_CALL, TRAP_WORD(ACTIVE)
ak_local_saved:
    mov IMAGE(ON_CALL), %rax
    jmp ak_trap_handle

    // A page fault, from the vector page, by now at the program's CPL and in the first window. RCX:
    // its interrupt stack, which tells the window; the registers that are in use lie there.
ak_trap_entry:
    and $-AK_WINDOW_STRIDE, %rcx
    add $(ak_trap - ak_entry_page), %rcx
    jmp *%rcx
ak_trap:
    cmpl $MV_TRAP_NONE, TRAP_WORD(ACTIVE)
    jne ak_trap_hand_over               // in the midst of the answer to another event
    SAVE_TO_TRAP
    mov %r11, TRAP(R11)
    COPY PUSHED(PUSHED_RDX), TRAP(RDX), %rax
    COPY PUSHED(PUSHED_RCX), TRAP(RCX), %rax
    COPY PUSHED(PUSHED_RIP), TRAP(RIP), %rax
    COPY PUSHED(PUSHED_RFLAGS), TRAP(RFLAGS), %rax
    COPY PUSHED(PUSHED_RSP), TRAP(RSP), %rax
    COPY PUSHED(PUSHED_ERROR), TRAP_WORD(ERROR), %rax
    COPY PUSHED(PUSHED_CR2), TRAP_WORD(CR2), %rax
    movl $MV_TRAP_FAULT, TRAP_WORD(ACTIVE)
ak_trap_saved:
    mov IMAGE(ON_FAULT), %rax
ak_trap_handle:
    lea (ak_entry_page + AK_WINDOW_STRIDE)(%rip), %rsp
    pushq $AK_FLAGS_FIXED
    popfq
    lea ak_entry_page(%rip), %rdi
    call *%rax
    cmp $AK_ANSWER_FRAME, %eax
    ja ak_trap_load
    jb ak_trap_hand_over
    mov TRAP_WORD(NEXT), %rax
    mov %rax, TRAP_WORD(ACTIVE)         // from here on the frame holds the program's state
    cmpl $0, TRAP_WORD(ATTENTION)
    jne ak_trap_hand_over
    test $MV_TRAP_RESET, %al
    jz ak_answered
    mov $-1, %eax
    mov $-1, %edx
    cmpq $0, (ak_entry_page + AK_SIGNALS_OFFSET + MV_SIGNALS_XFEATURES)(%rip)
    je 1f
    xrstor64 IMAGE(INITIAL_XSAVE)
    jmp 2f
1:  fxrstor64 IMAGE(INITIAL_XSAVE)
2:  movl $MV_TRAP_NONE, TRAP_WORD(ACTIVE)
    jmp ak_answered
ak_trap_hand_over:
    cmpq $0, FRAME(RING)
    je 1f
    movl %eax, (ak_entry_page + AK_DOORBELL_OFFSET + AK_DOORBELL_TRAP)(%rip)
    jmp ak_answered
1:  out %al, $AK_PORT_TRAP
    jmp ak_answered

    // A module has answered, or has not; frame: RIP, RSP, flags are the program's.
ak_trap_load:
    cmp $AK_ANSWER_DONE, %eax
    jne 1f
    LOAD_FROM_TRAP
    movl $MV_TRAP_NONE, TRAP_WORD(ACTIVE)
ak_done:
    cmpl $0, TRAP_WORD(ATTENTION)
    je ak_consumed
    SAVE_TO_FRAME
    jmp ak_trap_hand_over
ak_trap_forward:
1:  LOAD_FROM_TRAP
    mov TRAP_WORD(SITE), %rcx
    movl $MV_TRAP_NONE, TRAP_WORD(ACTIVE)
ak_forward:
    cmpl $0, TRAP_WORD(ATTENTION)
    je ak_forwarded
    jmp ak_asynchronous
ak_trap_end:

    // Run at CPL 0 once, to learn what a loop takes there, at best (EDI).
    .balign 16
ak_probe:
    mov $AK_PROBE_ROUNDS, %esi
    mov $-1, %edi
1:  rdtsc
    mov %eax, %ebx
    mov $AK_PROBE_LOOPS, %ecx
2:  dec %ecx
    jnz 2b
    rdtsc
    sub %ebx, %eax
    cmp %edi, %eax
    cmovb %eax, %edi
    dec %esi
    jnz 1b
    out %al, $AK_PORT_PROBE
    hlt

    // One exit a vector; RIP tells which. The exception's frame stays on its IST stack, where
    // the ROS side reads it, and the ROS side sets the registers to go on with.
    .balign 4096
ak_vector_page:
    .rept 256
    .balign AK_VECTOR_STRIDE
    out %al, $AK_PORT_VECTOR
    hlt
    .endr

    // Page faults do not leave at once: the AeroKernel answers some of them. Where instructions at
    // CPL 0 are interpreted, each costs as much as a system call does natively, so there are few,
    // and IRETQ is not among those that KVM interprets, as SYSEXIT is not among those of an AMD
    // processor in long mode.
ak_page_fault_interpreted:
    push %rdx
    push %rcx
    mov %cr2, %rdx
    push %rdx
    mov %rsp, %rcx
    mov $(AK_WINDOW(0) + (ak_trap_entry - ak_entry_page)), %rdx
    rex.w sysexit                       // to RDX, at CPL 3; RCX becomes RSP and stays
ak_page_fault_ring3:
    push %rdx
    push %rcx
    mov %cr2, %rdx
    push %rdx
    mov %rsp, %rcx
    mov $(AK_WINDOW(0) + (ak_trap_entry - ak_entry_page)), %rdx
    pushq $AK_USER_SS
    pushq %rcx
    pushq $AK_FLAGS_FIXED
    pushq $AK_USER_CS
    pushq %rdx
    iretq
ak_page_fault_ring0:
    test $8, %spl                       // INT 14: no error code
    jnz ak_vector_page + 14 * AK_VECTOR_STRIDE
    push %rdx
    push %rcx
    mov %cr2, %rdx
    push %rdx
    mov %rsp, %rcx
    mov $(AK_WINDOW(0) + (ak_trap_entry - ak_entry_page)), %rdx
    jmp *%rdx
    .balign 4096
ak_image_end:

    .section .note.GNU-stack, "", @progbits
