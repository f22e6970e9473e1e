"""Which installed sets of overrides make a program faster, found by measuring."""
