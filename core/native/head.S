// The first bytes of a native program, and where it is entered in 64-bit mode (abi/boot.h).

#include "abi/boot.h"

    .section .native.head, "a", @progbits
    .globl ak_native_head
ak_native_head:
    .quad MV_NATIVE_MAGIC
    .long MV_NATIVE_VERSION, 0
    .quad ak_native_entry, ak_native_entry_cpu
    .quad ak_vectors_ring0, ak_vectors_ring3
    .quad ak_no_system_call

    .text
    .globl ak_native_entry, ak_native_entry_cpu
ak_native_entry:
    xor %ebp, %ebp
    fninit
    call ak_native_start
    ud2
ak_native_entry_cpu:
    xor %ebp, %ebp
    fninit
    call ak_native_start_cpu
    ud2

    // There are no system calls: one is an invalid instruction (trap.c).
    .globl ak_no_system_call
ak_no_system_call:
    ud2

    .section .note.GNU-stack, "", @progbits
