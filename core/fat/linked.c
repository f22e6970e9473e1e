// In an executable that multiverse cc has linked: the C library calls this before every
// constructor, those of shared libraries included.

__attribute__((visibility("hidden"))) void mv_fat_start(int argc, char **argv, char **envp);

__attribute__((section(".preinit_array"), used)) static void (*const begin)(int, char **,
                                                                            char **) = mv_fat_start;
