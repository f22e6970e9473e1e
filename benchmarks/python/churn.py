"""churn N: large objects that live shortly. N times: makes a bytearray of 1 to 24 MiB and a list of
as many bytes, writes to both, keeps them until eight younger pairs are there, and adds up a sample
of what they hold. Pages that are taken from Linux, cleared by it, and given back, again and again.
"""

import sys

KEPT = 8
MEBIBYTE = 1 << 20
PAGE = 4096
WORD = 8


def size_of(turn):
    """A size in MiB, from 1 to 24, that looks drawn at random."""
    return 1 + turn * 37 % 24


def main(n):
    ring = [None] * KEPT
    total = 0
    for turn in range(n):
        size = size_of(turn) * MEBIBYTE
        block = bytearray(size)
        block[::PAGE] = bytes([turn % 251]) * (size // PAGE)
        items = [turn] * (size // WORD)
        ring[turn % KEPT] = (block, items)
        old_block, old_items = ring[(turn + 1) % KEPT] or (block, items)
        total += sum(old_block[::PAGE]) + sum(old_items[:: PAGE // WORD])
    print(f"{n} rounds: {total}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
