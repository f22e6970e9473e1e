// A native program on a machine without a monitor: from the PVH entry (32 bits, no paging, RBX with
// the address of struct hvm_start_info) to 64-bit mode, for all processors. What comes next is C
// (pc.c).

#include "abi/boot.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CR0_PAGING 0x80010023           /* PG WP NE MP PE */
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME_NXE 0x900
#define MSR_GS_BASE 0xc0000101
#define PAGE_BITS 3                     /* present, writable */
#define LARGE 0x80
#define STACK_BYTES 16384

    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad ak_pvh_entry

    .section .text.boot, "ax"
    .code32
    .globl ak_pvh_entry
ak_pvh_entry:
    cli
    cld
    // The lowest 4 GiB, each address its own, by leaves of 2 MiB. This lasts until nl_make().
    mov $tables + 0x1000 + PAGE_BITS, %eax
    mov %eax, tables
    mov $4, %ecx
    mov $tables + 0x1000, %edi
    mov $tables + 0x2000 + PAGE_BITS, %eax
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x1000, %eax
    loop 1b
    mov $2048, %ecx
    mov $tables + 0x2000, %edi
    mov $LARGE + PAGE_BITS, %eax
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    loop 1b
    mov $ak_pc_start, %esi
    mov $stack + STACK_BYTES, %esp
    // RBX: an argument, ESI: a function that does not return, ESP: its stack.
to_64_bits:
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $tables, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME_NXE, %eax
    wrmsr
    mov $CR0_PAGING, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $1f
    .code64
1:  xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov %esp, %esp
    mov %ebx, %edi
    mov %esi, %esi
    call *%rsi
    ud2

    // Where other processors begin, in real mode: copied to a page below 1 MiB, CS is its segment.
    .code16
    .globl ak_trampoline, ak_trampoline_end
ak_trampoline:
    cli
    cld
    lgdtl %cs:(trampoline_pointer - ak_trampoline)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $16, $cpu_32
    .balign 8
trampoline_pointer:
    .word 31
    .long gdt
ak_trampoline_end:

    .code32
cpu_32:
    mov $24, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov %eax, %es
    mov ak_pc_cpu_stack, %esp
    mov $ak_pc_start_cpu, %esi
    jmp to_64_bits

    .code64
    // void ak_pc_enter(boot, cpu, cr3, window, stack, entry): load this virtual CPU's tables and
    // enter the program.
    .globl ak_pc_enter
ak_pc_enter:
    mov %rdx, %cr3
    lea AK_TABLES_OFFSET(%rcx), %rax
    sub $16, %rsp
    movw $127, (%rsp)
    mov %rax, 2(%rsp)
    lgdt (%rsp)
    mov $AK_IDT_PAGE, %rax
    movw $16 * MV_NATIVE_VECTORS - 1, (%rsp)
    mov %rax, 2(%rsp)
    lidt (%rsp)
    mov $0x18, %eax                     // AK_TSS
    ltr %ax
    mov $0x10, %eax                     // AK_KERNEL_SS
    mov %eax, %ss
    mov %rcx, %rax
    mov %rcx, %rdx
    shr $32, %rdx
    mov $MSR_GS_BASE, %ecx
    wrmsr
    mov %r8, %rsp
    push $8                             // AK_KERNEL_CS
    push %r9
    lretq

    .section .rodata.boot, "a"
    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 31
    .long gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
tables:
    .skip 6 * 4096
stack:
    .skip STACK_BYTES

    .section .note.GNU-stack, "", @progbits
