"""mandelbrot N: the Mandelbrot set on an N by N grid. Prints a portable bitmap (PBM, format P4): a
pixel is black if its point has not left the circle of radius 2 after 50 steps. One write a row.
"""

import sys

STEPS = 50


def inside(cr, ci):
    zr = zi = 0.0
    for _ in range(STEPS):
        zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
        if zr * zr + zi * zi > 4.0:
            return False
    return True


def row(n, y):
    """The grid covers -1.5..0.5 and -1..1. Eight pixels a byte, the leftmost in the highest bit."""
    ci = 2.0 * y / n - 1.0
    bits = 0
    for x in range(n):
        bits = bits << 1 | inside(2.0 * x / n - 1.5, ci)
    size = (n + 7) // 8
    return (bits << (8 * size - n)).to_bytes(size, "big")


def main(n):
    out = sys.stdout.buffer
    out.write(b"P4\n%d %d\n" % (n, n))
    for y in range(n):
        out.write(row(n, y))


if __name__ == "__main__":
    main(int(sys.argv[1]))
