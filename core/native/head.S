// Where a native program is entered in 64-bit mode (abi/boot.h).

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
