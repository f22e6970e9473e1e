"""Multiverse: unmodified Linux programs as hybrid runtimes."""

__version__ = "0.1.0"
