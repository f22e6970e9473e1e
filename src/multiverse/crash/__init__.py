"""Crash reports: from what the core has taken down to what a developer reads."""
