// What a fat binary carries: the note, and the core as it was built, stripped .

#include <cet.h>

#include "abi/fat.h"
#include "abi/frame.h"
#include "fat-core.h"

    .section .multiverse, "a", @progbits
    .balign 64
    .globl mv_fat_core
    .hidden mv_fat_core
mv_fat_core:
    .incbin "fat-core.bin"

    .section .note.multiverse, "a", @note
    .balign 4
    .globl mv_fat_note_begin, mv_fat_note_end
    .hidden mv_fat_note_begin, mv_fat_note_end
mv_fat_note_begin:
    .long 2f - 1f
    .long 4f - 3f
    .long MV_FAT_NOTE_TYPE
1:  .asciz "Multiverse"
2:  .balign 4
3:
    .globl mv_fat_note
    .hidden mv_fat_note
mv_fat_note:
    .long MV_FAT_VERSION
    .long MV_AEROKERNEL_VERSION
    .quad mv_fat_core - .
    .quad MV_CORE_SIZE
    .long MV_CORE_CRC32
    .long MV_KIND
5:  .ascii MV_RELEASE
    .zero MV_FAT_RELEASE_BYTES - (. - 5b)
#if MV_KIND == MV_FAT_LINKED
    .quad mv_fat_start - .
#else
    .quad mv_fat_code - .
#endif
4:
mv_fat_note_end:

    .section .note.GNU-stack, "", @progbits
