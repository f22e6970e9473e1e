// Going back to a place on the stack.

    .text

// int mv_context_save(context): 0 now, `value` when mv_context_restore comes back here.
    .globl mv_context_save, mv_context_restore
    .hidden mv_context_save, mv_context_restore
mv_context_save:
    mov %rbx, 0(%rdi)
    mov %rbp, 8(%rdi)
    mov %r12, 16(%rdi)
    mov %r13, 24(%rdi)
    mov %r14, 32(%rdi)
    mov %r15, 40(%rdi)
    lea 8(%rsp), %rax
    mov %rax, 48(%rdi)
    mov (%rsp), %rax
    mov %rax, 56(%rdi)
    xor %eax, %eax
    ret
mv_context_restore:
    mov %esi, %eax
    mov 0(%rdi), %rbx
    mov 8(%rdi), %rbp
    mov 16(%rdi), %r12
    mov 24(%rdi), %r13
    mov 32(%rdi), %r14
    mov 40(%rdi), %r15
    mov 48(%rdi), %rsp
    cld
    jmp *56(%rdi)

    .section .note.GNU-stack, "", @progbits
