// The string functions, for programs that have none of their own.

#undef MV_STRING_PRIVATE
#pragma weak memcpy
#pragma weak memmove
#pragma weak memset
#pragma weak memcmp
#pragma weak strlen
#pragma weak strcmp
#pragma weak strncmp
#pragma weak strrchr

#include "base/string.c"
