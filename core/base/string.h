// The memory and string functions that the core needs; gcc may also emit calls of the first four.
#ifndef MV_BASE_STRING_H
#define MV_BASE_STRING_H

#include <stddef.h>

// In a native program the AeroKernel does not call the program's functions of these names, which
// may use registers that are not saved yet: its own have others.
#ifdef MV_STRING_PRIVATE
#define MV_STRING(name) __asm__("ak_" #name)
#elif defined(MV_STRING_WEAK) // a module of overrides may have functions of these names
#define MV_STRING(name) __attribute__((weak))
#else
#define MV_STRING(name)
#endif

void *memcpy(void *restrict dst, const void *restrict src, size_t n) MV_STRING(memcpy);
void *memmove(void *dst, const void *src, size_t n) MV_STRING(memmove);
void *memset(void *dst, int c, size_t n) MV_STRING(memset);
int memcmp(const void *a, const void *b, size_t n) MV_STRING(memcmp);
size_t strlen(const char *s) MV_STRING(strlen);
int strcmp(const char *a, const char *b) MV_STRING(strcmp);
int strncmp(const char *a, const char *b, size_t n) MV_STRING(strncmp);
const char *strrchr(const char *s, int c) MV_STRING(strrchr);

#endif
