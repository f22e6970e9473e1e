// The AeroKernel's image, as bytes of the core.

    .section .rodata
    .balign 16
    .globl ak_kernel_begin, ak_kernel_end
    .hidden ak_kernel_begin, ak_kernel_end
ak_kernel_begin:
    .incbin "aerokernel.bin"
ak_kernel_end:

    .section .note.GNU-stack, "", @progbits
