// The process's first instruction. The stack is as execve(2) leaves it.

    .text
    .globl _start
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    call mv_relocate
    ud2

    .section .note.GNU-stack, "", @progbits
