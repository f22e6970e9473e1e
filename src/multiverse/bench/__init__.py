"""Benchmarks: what a program costs as an HRT, measured beside the same program run natively.

The modules, from the bottom up:

- ``errors``   what can go wrong, with the exit status that goes with it
- ``stats``    medians, quartiles, percentiles and paired ratios
- ``runner``   running one command and measuring it; interleaving several
- ``pairs``    running one program in several ways, comparing what it writes
- ``machine``  what was measured on, and whether it can run an HRT at all
- ``sources``  where the benchmark programs' sources are
- ``racket``   the seven Racket benchmarks
- ``micro``    the measuring programs in C: compiling, running and reading them
- ``base``     start-up, memory, first touch, computing and a system call
- ``mpi``      an MPI program with each rank an HRT
- ``topology`` which processors to measure between
- ``latency``  the round trips of Figure 2 and what bounds them
- ``programs`` the programs of Figure 3, and the runtimes that they are for
- ``virtual``  the same in a plain Linux guest
- ``results``  what a run of Figure 3 gave, and the JSON file
- ``figure3``  measuring Figure 3, whole
- ``report``   tables for people
- ``figure3_tables``, ``pages``  Figure 3 as tables, as HTML and as Markdown
- ``chart``    bar charts

Nothing here imports the command line, and nothing imports matplotlib or rich before it draws.
"""
