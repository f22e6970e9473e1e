// libaerokernel: what programs link with. Each function jumps through the table of the AeroKernel's
// image, which is only there in an HRT, as ak_attach() finds out.

#include <asm/unistd.h>

#include "abi/frame.h"

    .text
    .globl ak_attach
    .type ak_attach, @function
ak_attach:
    mov $MV_NR_AEROKERNEL, %eax
    mov $MV_AEROKERNEL_ATTACH, %edi
    mov $MV_AEROKERNEL_VERSION, %esi
    syscall
    test %eax, %eax
    jz ak_attach_cpu
    ret
    .size ak_attach, . - ak_attach

    .set place, AK_KERNEL + AK_IMAGE_API
    .macro STUB name
    .globl \name
    .type \name, @function
\name:
    jmp *place
    .size \name, . - \name
    .set place, place + 8
    .endm

#define AK_API(name) STUB name;
#include "aerokernel/api.h"

    .section .note.GNU-stack, "", @progbits
