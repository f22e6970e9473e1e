// Unwinding information, for the assembler: where a struct mv_frame has the registers, by DWARF's
// numbers (System V ABI, AMD64 supplement, 3.6.2). Whoever uses it defines the macro SAVED, which
// says of one register where that is: its number, its offset in the frame.
#ifndef AK_SAVED_H
#define AK_SAVED_H

    .macro SAVED_REGISTERS
    SAVED 0, MV_FRAME_RAX
    SAVED 1, MV_FRAME_RDX
    SAVED 2, MV_FRAME_RCX
    SAVED 3, MV_FRAME_RBX
    SAVED 4, MV_FRAME_RSI
    SAVED 5, MV_FRAME_RDI
    SAVED 6, MV_FRAME_RBP
    SAVED 8, MV_FRAME_R8
    SAVED 9, MV_FRAME_R9
    SAVED 10, MV_FRAME_R10
    SAVED 11, MV_FRAME_R11
    SAVED 12, MV_FRAME_R12
    SAVED 13, MV_FRAME_R13
    SAVED 14, MV_FRAME_R14
    SAVED 15, MV_FRAME_R15
    SAVED 16, MV_FRAME_RIP
    .endm

#endif
