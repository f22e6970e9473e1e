// Unwinding information for debuggers, of the entry pages of all windows: what ak_on_fault() and
// ak_on_call() return to. Their caller in turn is the program, whose state lies in the window's
// struct mv_trap. An entry page has no place in this file, so the section is written by hand (DWARF
// 5, 6.4.1; the augmentation S, as compilers use it for signal frames: the address is not behind a
// call).

#include "abi/frame.h"
#include "aerokernel/saved.inc"

    // The address of the word of the trap's record: the window is what RIP (register 16) lies in.
    .macro TRAP_WORD_OF at
    .byte 0x80, 0                       // DW_OP_breg16
    .byte 0x0b                          // DW_OP_const2s
    .2byte -AK_WINDOW_STRIDE
    .byte 0x1a                          // DW_OP_and
    .byte 0x23                          // DW_OP_plus_uconst
    .uleb128 AK_TRAP_OFFSET + \at
    .endm
    .macro SAVED register, at
    .byte 0x10                          // DW_CFA_expression
    .uleb128 \register, 9
    TRAP_WORD_OF \at
    .endm

    .section .debug_frame, "", @progbits
    .balign 8
cie:
    .4byte cie_end - cie_id
cie_id:
    .4byte 0xffffffff
    .byte 1                             // version
    .asciz "S"
    .uleb128 1                          // code alignment
    .sleb128 -8                         // data alignment
    .uleb128 16                         // return address: RIP
    .byte 0x0f                          // DW_CFA_def_cfa_expression
    .uleb128 10
    TRAP_WORD_OF MV_FRAME_RSP
    .byte 0x06                          // DW_OP_deref
    SAVED_REGISTERS
    .balign 8, 0                        // DW_CFA_nop
cie_end:
    .4byte fde_end - fde_cie
fde_cie:
    .4byte cie
    .8byte AK_WINDOWS
    .8byte AK_WINDOWS_MAX * AK_WINDOW_STRIDE
    .balign 8, 0
fde_end:

    .section .note.GNU-stack, "", @progbits
