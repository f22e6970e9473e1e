// Exceptions and interrupts of native programs. A vector's first instructions run at CPL 0, on an
// interrupt stack in the virtual CPU's window; the rest runs at the program's CPL. Where a KVM
// interprets CPL 0, each instruction there costs as much as a system call does natively, so there
// are few, and only those that KVM knows: SYSEXIT leaves it, and the IRETQ at the end, from CPL 3 to
// CPL 3, is the processor's.

#include "abi/boot.h"

#define TRAP_FRAME_RSP 168 // of struct ak_trap_frame; trap.c checks it

    .text

    .macro VECTORS save
    .set vector, 0
    .rept MV_NATIVE_VECTORS
    .balign MV_NATIVE_VECTOR_STRIDE
    // Vectors whose error code the processor pushes: 8, 10 to 14, 17, 21, 29, 30.
    .if !(0x60227d00 >> vector & 1) || vector > 31
    push $0
    .endif
    push $vector
    jmp \save
    .set vector, vector + 1
    .endr
    .endm

    .balign MV_NATIVE_VECTOR_STRIDE
    .globl ak_vectors_ring0, ak_vectors_ring3
ak_vectors_ring0:
    VECTORS save_ring0
    .balign MV_NATIVE_VECTOR_STRIDE
ak_vectors_ring3:
    VECTORS save_ring3

save_ring3:
    push %rcx
    push %rdx
    mov %cr2, %rdx
    push %rdx
    mov %rsp, %rcx
    mov $ak_trap_save, %edx
    rex.w sysexit                       // to RDX, at CPL 3; RCX becomes RSP and stays
save_ring0:
    push %rcx
    push %rdx
    mov %cr2, %rdx
    push %rdx

    // The rest of struct ak_trap_frame. The stack's address tells the window, whose last pages are
    // the AeroKernel's own stack. An NMI may come while that is in use: then it goes on below.
ak_trap_save:
    push %rax
    push %rbx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rbx
    mov %rsp, %rdi
    mov %rsp, %rsi
    and $-AK_WINDOW_STRIDE, %rsi
    mov TRAP_FRAME_RSP(%rbx), %rsp
    and $-16, %rsp
    lea AK_STACK_OFFSET(%rsi), %rax
    lea AK_WINDOW_STRIDE(%rsi), %rcx
    cmp %rax, %rsp
    jb 1f
    cmp %rcx, %rsp
    jb 2f
1:  mov %rcx, %rsp
2:  call ak_native_trap
    mov %rbx, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rbx
    pop %rax
    add $8, %rsp
    pop %rdx
    pop %rcx
    add $16, %rsp
    iretq

    .section .note.GNU-stack, "", @progbits
