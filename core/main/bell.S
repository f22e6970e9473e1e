// What the bare exit is measured with: a program that does nothing but ring the doorbell. It is
// copied into program memory and runs there, at the ring that programs run at; RDI: the doorbell.

#include "abi/frame.h"

    .section .rodata
    .globl mv_bell_port, mv_bell_store, mv_bell_end
    .hidden mv_bell_port, mv_bell_store, mv_bell_end
mv_bell_port:
    out %al, $AK_PORT_DOORBELL
    jmp mv_bell_port
mv_bell_store:
    movl %eax, (%rdi)
    jmp mv_bell_store
mv_bell_end:

    .section .note.GNU-stack, "", @progbits
