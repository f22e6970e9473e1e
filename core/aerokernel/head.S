// The header of the AeroKernel's image (struct ak_image).

#include "abi/frame.h"

    .section .head, "a", @progbits
    .quad 0x314c4e4b4f524541
    .quad ak_on_fault, ak_on_call
    .quad ak_text_end, ak_data_end, ak_bss_end
    .quad ak_copy_begin, ak_copy_fault
    // Extended state: all components in their initial state, the control words as Linux sets them.
    .word 0x37f
    .org 64 + 24
    .long 0x1f80
    .org AK_IMAGE_INITIAL_XSAVE + 576
    .quad ak_load_begin
    .org AK_IMAGE_API
#define AK_API(name) .quad name;
#include "aerokernel/api.h"

    .section .note.GNU-stack, "", @progbits
