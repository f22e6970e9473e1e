"""fasta N: random DNA sequences. Prints three sequences in FASTA format, 60 letters a line: 2N
letters of a repeated piece, then 3N and 5N letters drawn with given frequencies by a small linear
congruential generator. A letter is found by walking the cumulated frequencies, and each line is
written by itself.
"""

import itertools
import sys

COLUMNS = 60

ALU = (
    "GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGG"
    "GAGGCCGAGGCGGGCGGATCACCTGAGGTCAGGAGTTCGAGA"
    "CCAGCCTGGCCAACATGGTGAAACCCCGTCTCTACTAAAAAT"
    "ACAAAAATTAGCCGGGCGTGGTGGCGCGCGCCTGTAATCCCA"
    "GCTACTCGGGAGGCTGAGGCAGGAGAATCGCTTGAACCCGGG"
    "AGGCGGAGGTTGCAGTGAGCCGAGATCGCGCCACTGCACTCC"
    "AGCCTGGGCGACAGAGCGAGACTCCGTCTCAAAAA"
)

IUB = (
    *(("a", 0.27), ("c", 0.12), ("g", 0.12), ("t", 0.27)),
    *((letter, 0.02) for letter in "BDHKMNRSVWY"),
)

HOMO_SAPIENS = (
    ("a", 0.3029549426680),
    ("c", 0.1979883004921),
    ("g", 0.1975473066391),
    ("t", 0.3015094502008),
)

MODULUS = 139968


def randoms():
    """The generator that the benchmark prescribes: numbers from 0 to below 1."""
    state = 42
    while True:
        state = (state * 3877 + 29573) % MODULUS
        yield state / MODULUS


def drawing(table, numbers):
    """Letters; the last one takes what rounding leaves over."""
    letters = [letter for letter, _ in table]
    *limits, _ = itertools.accumulate((weight for _, weight in table), initial=0.0)
    pairs = list(zip(letters[:-1], limits[1:], strict=True))
    last = letters[-1]
    for number in numbers:
        for letter, limit in pairs:
            if number < limit:
                yield letter
                break
        else:
            yield last


def print_sequence(heading, count, letters):
    out = sys.stdout
    out.write(f">{heading}\n")
    while count > 0:
        width = min(count, COLUMNS)
        out.write("".join(itertools.islice(letters, width)))
        out.write("\n")
        count -= width


def main(n):
    numbers = randoms()
    print_sequence("ONE Homo sapiens alu", 2 * n, itertools.cycle(ALU))
    print_sequence("TWO IUB ambiguity codes", 3 * n, drawing(IUB, numbers))
    print_sequence("THREE Homo sapiens frequency", 5 * n, drawing(HOMO_SAPIENS, numbers))


if __name__ == "__main__":
    main(int(sys.argv[1]))
