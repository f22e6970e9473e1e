// The process's first instruction. The stack is as execve(2) leaves it.

#include "abi/attach.h"

    .text
    .globl _start
    .balign 16
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    jmp start

    // What libmultiverse looks for (abi/attach.h).
    .org _start + MV_ATTACH_OFFSET
header:
    .quad MV_ATTACH_MAGIC, MV_ATTACH_VERSION, mv_attach - header

start:
    call mv_relocate
    ud2

    .section .note.GNU-stack, "", @progbits
