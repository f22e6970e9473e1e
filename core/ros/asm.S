// The few places of the Linux side that C cannot say.

    .text

// int64_t ros_syscall_asm(group, nr, args): a system call on behalf of the program.
//
// A signal that finds the thread between ros_syscall_begin and ros_syscall_insn (inclusive) finds
// a call that has not begun, or that the kernel has set up to begin again; the handler then goes
// on at ros_syscall_interrupted. Behind the instruction the call has its result. So the kernel
// itself decides between EINTR and a restart, and no signal is lost in between.
    .globl ros_syscall_asm, ros_syscall_begin, ros_syscall_insn, ros_syscall_end
    .globl ros_syscall_interrupted
    .hidden ros_syscall_asm, ros_syscall_begin, ros_syscall_insn, ros_syscall_end
    .hidden ros_syscall_interrupted
ros_syscall_asm:
    push %rbx
    mov %rdi, %rbx
    mov %rsi, %rax
    mov %rdx, %r11
    mov 0(%r11), %rdi
    mov 8(%r11), %rsi
    mov 16(%r11), %rdx
    mov 24(%r11), %r10
    mov 32(%r11), %r8
    mov 40(%r11), %r9
ros_syscall_begin:
    cmpq $0, 0(%rbx)            // group->signal_pending, debug_pending
    jne ros_syscall_interrupted
ros_syscall_insn:
    syscall
ros_syscall_end:
    pop %rbx
    ret
ros_syscall_interrupted:
    mov %rax, 16(%rbx)          // group->restart_rax
    movabs $0x8000000000000000, %rax
    pop %rbx
    ret

// bool ros_mask_asm(group, mask): make a signal mask the thread's and return true, unless a signal
// is pending. One that finds the thread between ros_mask_begin and the instruction makes it look
// again.
    .globl ros_mask_asm, ros_mask_begin, ros_mask_end
    .hidden ros_mask_asm, ros_mask_begin, ros_mask_end
ros_mask_asm:
    mov %rdi, %r8
    mov $14, %eax               // rt_sigprocmask
    mov $2, %edi                // SIG_SETMASK
    xor %edx, %edx
    mov $8, %r10d
ros_mask_begin:
    cmpl $0, 0(%r8)             // group->signal_pending
    jne 1f
    syscall
ros_mask_end:
    mov $1, %eax
    ret
1:  xor %eax, %eax
    ret

// int ros_copy_asm(dst, src, size): 0, or -EFAULT when either side is not there.
    .globl ros_copy_asm, ros_copy_begin, ros_copy_end, ros_copy_fault
    .hidden ros_copy_asm, ros_copy_begin, ros_copy_end, ros_copy_fault
ros_copy_asm:
    mov %rdx, %rcx
ros_copy_begin:
    rep movsb
ros_copy_end:
    xor %eax, %eax
    ret
ros_copy_fault:
    mov $-14, %eax              // -EFAULT
    ret

// void ros_native_enter(stack_pointer): rt_sigreturn from a frame we made ourselves.
    .globl ros_native_enter
    .hidden ros_native_enter
ros_native_enter:
    mov %rdi, %rsp
    // fall through

// The restorer of our own signal handlers.
    .globl ros_restorer
    .hidden ros_restorer
ros_restorer:
    mov $15, %eax               // rt_sigreturn
    syscall
    ud2

// Where our signal handlers begin. Linux clears DF and TF on the way to a handler, but leaves AC
// as a replicated instruction had it.
    .globl ros_signal_entry
    .hidden ros_signal_entry
ros_signal_entry:
    pushfq
    andq $~0x40000, (%rsp)
    popfq
    jmp ros_on_signal

// void ros_exit_asm(busy, status): from the moment *busy is 0 another thread may use this stack.
    .globl ros_exit_asm
    .hidden ros_exit_asm
ros_exit_asm:
    mov $60, %eax               // exit
    movl $0, (%rdi)
    mov %esi, %edi
    syscall
    ud2

// int64_t ros_call_far_asm(fn, arg, stack)
    .globl ros_call_far_asm
    .hidden ros_call_far_asm
ros_call_far_asm:
    push %rbx
    mov %rsp, %rbx
    mov %rdx, %rsp
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    mov %rbx, %rsp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
