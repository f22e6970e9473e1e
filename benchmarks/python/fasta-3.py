"""fasta-3 N: random DNA sequences, built differently. Prints what fasta prints. Here the whole
cycle of the generator is walked once and turned into the cycle of letters, so a line is a slice of
it, and a thousand lines are written at a time. Little computation a letter, large writes.
"""

import os
import sys

COLUMNS = 60
LINES_A_WRITE = 1024

MULTIPLIER, INCREMENT, MODULUS = 3877, 29573, 139968
SEED = 42

ALU = (
    b"GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGGGAGGCCGAGGCGGGCGGATCACCTGAGG"
    b"TCAGGAGTTCGAGACCAGCCTGGCCAACATGGTGAAACCCCGTCTCTACTAAAAATACAAAAATTAGCCGGG"
    b"CGTGGTGGCGCGCGCCTGTAATCCCAGCTACTCGGGAGGCTGAGGCAGGAGAATCGCTTGAACCCGGGAGGC"
    b"GGAGGTTGCAGTGAGCCGAGATCGCGCCACTGCACTCCAGCCTGGGCGACAGAGCGAGACTCCGTCTCAAAAA"
)
IUB = (b"acgtBDHKMNRSVWY", (0.27, 0.12, 0.12, 0.27, *(11 * [0.02])))
HOMO_SAPIENS = (b"acgt", (0.3029549426680, 0.1979883004921, 0.1975473066391, 0.3015094502008))


def letter_table(letters, weights):
    """MODULUS letters: the one that each state of the generator stands for."""
    table = bytearray(letters[-1:] * MODULUS)
    start, total = 0, 0.0
    for letter, weight in zip(letters, weights, strict=True):
        total += weight
        end = start
        while end < MODULUS and end / MODULUS < total:
            end += 1
        table[start:end] = bytes([letter]) * (end - start)
        start = end
    return table


def cycle_of_states():
    """All states in the order in which the generator takes them, from the one after SEED on."""
    states = []
    state = SEED
    while True:
        state = (state * MULTIPLIER + INCREMENT) % MODULUS
        states.append(state)
        if state == SEED:
            return states


def write_all(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def write_letters(heading, count, text, start):
    """Write `count` letters of a text that repeats, from `start` on; returns the next index."""
    write_all(heading)
    size = len(text)
    longest = LINES_A_WRITE * COLUMNS
    # With its own beginning after its end, so that every line is one slice.
    text = text * (COLUMNS // size + 1) + text[:COLUMNS]
    while count:
        left = min(count, longest)
        count -= left
        lines = []
        while left:
            width = min(left, COLUMNS)
            lines.append(text[start : start + width])
            start = (start + width) % size
            left -= width
        lines.append(b"")
        write_all(b"\n".join(lines))
    return start


def main(n):
    states = cycle_of_states()
    write_letters(b">ONE Homo sapiens alu\n", 2 * n, ALU, 0)
    at = 0
    for heading, factor, (letters, weights) in (
        (b">TWO IUB ambiguity codes\n", 3, IUB),
        (b">THREE Homo sapiens frequency\n", 5, HOMO_SAPIENS),
    ):
        table = letter_table(letters, weights)
        text = bytes(map(table.__getitem__, states))
        at = write_letters(heading, factor * n, text, at)


if __name__ == "__main__":
    main(int(sys.argv[1]))
