"""spectral-norm N: the largest singular value of an infinite matrix, cut to N by N. The matrix is
A(i,j) = 1 / ((i+j)(i+j+1)/2 + i + 1), never stored. Ten rounds of the power method with
A-transposed times A.
"""

import math
import sys

ROUNDS = 10


def entry(i, j):
    diagonal = i + j
    return 1.0 / ((diagonal * (diagonal + 1) >> 1) + i + 1)


def multiply_a(v):
    return [sum([entry(i, j) * x for j, x in enumerate(v)]) for i in range(len(v))]


def multiply_a_transposed(v):
    return [sum([entry(j, i) * x for j, x in enumerate(v)]) for i in range(len(v))]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def spectral_norm(n):
    u = [1.0] * n
    for _ in range(ROUNDS):
        v = multiply_a_transposed(multiply_a(u))
        u = multiply_a_transposed(multiply_a(v))
    return math.sqrt(dot(u, v) / dot(v, v))


def main(n):
    print(f"{spectral_norm(n):.9f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
