// In an executable that multiverse pack has made: the entry point, and what pack fills in. The
// registers are as Linux or the dynamic linker leaves them; RDX and the stack have a meaning.


#include "abi/fat.h"

    .section .packed, "ax", @progbits
    .globl mv_fat_code
    .hidden mv_fat_code
mv_fat_code:                    // struct mv_fat_packed
    .ascii MV_FAT_MAGIC
    .quad entry - mv_fat_code
    .quad mv_fat_note_begin - mv_fat_code
    .quad mv_fat_note_end - mv_fat_code
original:
    .quad 0
    .quad 0, 0, 0
    .quad 0, 0

entry:
    endbr64
    push %rdx
    mov 8(%rsp), %rdi           // argc
    lea 16(%rsp), %rsi          // argv
    lea 8(%rsi,%rdi,8), %rdx    // envp
    sub $8, %rsp
    call mv_fat_start
    add $8, %rsp
    pop %rdx
    lea original(%rip), %rax
    add original(%rip), %rax
    xor %ecx, %ecx
    xor %esi, %esi
    xor %edi, %edi
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    jmp *%rax

    .section .note.GNU-stack, "", @progbits
