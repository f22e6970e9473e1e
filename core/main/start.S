// The process's first instruction, with the stack as execve(2) leaves it and all registers 0; or
// a call from a process that is a program already (abi/fat.h), with a pointer in RDI.

#include "abi/fat.h"

    .text
    .globl _start
    .balign 16
_start:
    test %rdi, %rdi
    jnz adopt
    xor %ebp, %ebp
    mov %rsp, %rsi
    and $-16, %rsp
    jmp start

    .org _start + MV_CORE_MARK
    .quad MV_CORE_MAGIC, MV_FAT_VERSION

start:
    call mv_relocate
    ud2

adopt:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, MV_ADOPTION_RSP(%rdi)
    mov %rsp, %rsi
    and $-16, %rsp
    call mv_relocate
    ud2

// void mv_adopt_return(adoption, result): back to the caller, natively.
    .globl mv_adopt_return
    .hidden mv_adopt_return
mv_adopt_return:
    mov MV_ADOPTION_RSP(%rdi), %rsp
    mov %esi, %eax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret

    .section .note.GNU-stack, "", @progbits
