// Context switches of AeroKernel threads, and the way into and out of fault handlers.

#include "abi/frame.h"
#include "aerokernel/saved.inc"

    .text

// void ak_switch(uint64_t *save, uint64_t rsp)
    .globl ak_switch
ak_switch:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    sub $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    add $8, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

// Where a new thread begins, by the RET above.
    .globl ak_thread_begin
ak_thread_begin:
    xor %ebp, %ebp
    call ak_thread_main
    ud2

// A fault handler's call: RDI is the struct ak_upcall on the program's stack, RSP below it. From
// here on this is the program's own doing, which a signal may interrupt anywhere.
//
// A backtrace goes on from the handler to the instruction that faulted: by frame pointers through
// the two words that are pushed, by the unwinding information through the struct, to which RBX
// points; `at` is the register's place in it.
    .macro SAVED register, at           // DW_CFA_expression: DW_OP_breg3 (RBX)
    .cfi_escape 0x10, \register, 3, 0x73, (\at & 0x7f) | 0x80, \at >> 7
    .endm
    .cfi_sections .debug_frame
    .globl ak_upcall
    .type ak_upcall, @function
ak_upcall:
    .cfi_startproc
    .cfi_signal_frame                   // the caller's address is not behind a call
    .cfi_escape 0x0f, 4, 0x73, (MV_FRAME_RSP & 0x7f) | 0x80, MV_FRAME_RSP >> 7, 0x06 // DW_OP_deref
    SAVED_REGISTERS
    mov %rdi, %rbx
    push MV_FRAME_RIP(%rbx)
    push MV_FRAME_RBP(%rbx)
    mov %rsp, %rbp
    call ak_upcall_begin
    lea AK_UPCALL_FAULT(%rbx), %rdi
    mov AK_UPCALL_ARG(%rbx), %rsi
    call *AK_UPCALL_FN(%rbx)
    mov %rbx, %rdi
    movzbl %al, %esi
    call ak_upcall_end
    mov %rbx, %rsp
    // The flags and the address to go on at lie right below the program's red zone.
    mov MV_FRAME_RSP(%rsp), %rax
    mov MV_FRAME_RIP(%rsp), %rcx
    mov MV_FRAME_RFLAGS(%rsp), %rdx
    mov %rcx, -136(%rax)
    mov %rdx, -144(%rax)
    mov MV_FRAME_R15(%rsp), %r15
    mov MV_FRAME_R14(%rsp), %r14
    mov MV_FRAME_R13(%rsp), %r13
    mov MV_FRAME_R12(%rsp), %r12
    mov MV_FRAME_RBP(%rsp), %rbp
    mov MV_FRAME_R11(%rsp), %r11
    mov MV_FRAME_R10(%rsp), %r10
    mov MV_FRAME_R9(%rsp), %r9
    mov MV_FRAME_R8(%rsp), %r8
    mov MV_FRAME_RAX(%rsp), %rax
    mov MV_FRAME_RCX(%rsp), %rcx
    mov MV_FRAME_RDX(%rsp), %rdx
    mov MV_FRAME_RSI(%rsp), %rsi
    mov MV_FRAME_RDI(%rsp), %rdi
    .cfi_endproc
    mov MV_FRAME_RBX(%rsp), %rbx
    mov MV_FRAME_RSP(%rsp), %rsp
    lea -144(%rsp), %rsp
    popfq
    ret $128
    .size ak_upcall, . - ak_upcall

    .section .note.GNU-stack, "", @progbits
