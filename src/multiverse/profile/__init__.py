"""`multiverse profile`: what a program asks Linux for, from where, and what that costs.

`record` runs a program, `raw` reads what the core has written, `analysis` makes of it a `Profile`
(`model`), which the other modules show.
"""
