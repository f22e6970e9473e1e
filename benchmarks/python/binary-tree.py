"""binary-tree N: allocation. Builds and walks very many complete binary trees, from the bottom up,
while one large tree stays alive.
"""

import sys

SMALLEST_DEPTH = 4


def build(depth):
    """A leaf is a pair of None; an inner node a pair of two nodes."""
    if depth == 0:
        return (None, None)
    return (build(depth - 1), build(depth - 1))


def count_nodes(tree):
    left, right = tree
    if left is None:
        return 1
    return 1 + count_nodes(left) + count_nodes(right)


def report(what, depth, check):
    print(f"{what} of depth {depth}\t check: {check}")


def main(n):
    deepest = max(n, SMALLEST_DEPTH + 2)
    report("stretch tree", deepest + 1, count_nodes(build(deepest + 1)))
    long_lived = build(deepest)
    for depth in range(SMALLEST_DEPTH, deepest + 1, 2):
        trees = 1 << (deepest - depth + SMALLEST_DEPTH)
        nodes = sum(count_nodes(build(depth)) for _ in range(trees))
        report(f"{trees}\t trees", depth, nodes)
    report("long lived tree", deepest, count_nodes(long_lived))


if __name__ == "__main__":
    main(int(sys.argv[1]))
