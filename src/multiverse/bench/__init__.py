"""Benchmarks: what a program costs as an HRT, measured beside the same program run natively.

The modules, from the bottom up:

- ``errors``   what can go wrong, with the exit status that goes with it
- ``stats``    medians, quartiles and paired ratios
- ``runner``   running one command and measuring it; interleaving several
- ``machine``  what was measured on, and whether it can run an HRT at all
- ``sources``  where the benchmark programs' sources are
- ``racket``   the seven Racket benchmarks
- ``base``     start-up, memory, first touch, computing and a system call
- ``report``   tables for people
- ``chart``    the bar chart

Nothing here imports the command line, and nothing imports matplotlib or rich before it draws.
"""
