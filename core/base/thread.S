// Threads and stacks of the core's own.

    .text

// int64_t mv_clone(nr, args, start, arg)
    .globl mv_clone
    .hidden mv_clone
mv_clone:
    push %r12
    push %r13
    mov %rdx, %r12
    mov %rcx, %r13
    mov %rdi, %rax
    mov %rsi, %r11
    mov 0(%r11), %rdi
    mov 8(%r11), %rsi
    mov 16(%r11), %rdx
    mov 24(%r11), %r10
    mov 32(%r11), %r8
    syscall
    test %rax, %rax
    jnz 1f
    xor %ebp, %ebp
    and $-16, %rsp
    mov %r13, %rdi
    call *%r12
    ud2
1:  pop %r13
    pop %r12
    ret

// void mv_call_on_stack(fn, arg, stack)
    .globl mv_call_on_stack
    .hidden mv_call_on_stack
mv_call_on_stack:
    mov %rdx, %rsp
    xor %ebp, %ebp
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    ud2

    .section .note.GNU-stack, "", @progbits
