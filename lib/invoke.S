// What C cannot say: a call with any arguments, and one that libc does not know.

#include "abi/frame.h"

#define FUNCTION 0
#define INTEGERS 8
#define REALS 56
#define STACK 120
#define STACK_COUNT 128
#define RESULT 136
#define REAL_RESULT 152

    .text
    // void invoke(struct mv_call *call)
    .globl invoke
    .hidden invoke
    .type invoke, @function
invoke:
    .cfi_startproc
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    push %rbx
    .cfi_offset %rbx, -24
    push %rbx                           // 16-byte alignment
    mov %rdi, %rbx
    mov STACK_COUNT(%rbx), %rcx
    mov STACK(%rbx), %rsi
    test $1, %cl
    jz 1f
    push %rcx
1:  test %rcx, %rcx
    jz 2f
    push -8(%rsi,%rcx,8)
    dec %rcx
    jmp 1b
2:  movsd REALS(%rbx), %xmm0
    movsd (REALS + 8)(%rbx), %xmm1
    movsd (REALS + 16)(%rbx), %xmm2
    movsd (REALS + 24)(%rbx), %xmm3
    movsd (REALS + 32)(%rbx), %xmm4
    movsd (REALS + 40)(%rbx), %xmm5
    movsd (REALS + 48)(%rbx), %xmm6
    movsd (REALS + 56)(%rbx), %xmm7
    mov INTEGERS(%rbx), %rdi
    mov (INTEGERS + 8)(%rbx), %rsi
    mov (INTEGERS + 16)(%rbx), %rdx
    mov (INTEGERS + 24)(%rbx), %rcx
    mov (INTEGERS + 32)(%rbx), %r8
    mov (INTEGERS + 40)(%rbx), %r9
    mov $8, %eax                        // of a function with variable arguments: vector registers
    call *FUNCTION(%rbx)
    mov %rax, RESULT(%rbx)
    mov %rdx, (RESULT + 8)(%rbx)
    movsd %xmm0, REAL_RESULT(%rbx)
    movsd %xmm1, (REAL_RESULT + 8)(%rbx)
    lea -8(%rbp), %rsp
    pop %rbx
    pop %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size invoke, . - invoke

    // int64_t core_request(what, a, b): the system call that only an HRT has.
    .globl core_request
    .hidden core_request
    .type core_request, @function
core_request:
    mov $MV_NR_AEROKERNEL, %eax
    syscall
    ret
    .size core_request, . - core_request

    // Unwinders know this code for the end of a signal handler.
    .globl worker_restorer
    .hidden worker_restorer
    nop
worker_restorer:
    mov $15, %rax                       // rt_sigreturn
    syscall
    ud2

    .section .note.GNU-stack, "", @progbits
