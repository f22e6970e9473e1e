"""Fat binaries: ordinary executables that also carry the core (docs/toolchain.md)."""
