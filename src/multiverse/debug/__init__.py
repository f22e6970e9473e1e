"""Debugging of hybrid runtimes with gdb: a remote stub (docs/debugging.md)."""
