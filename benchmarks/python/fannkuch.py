"""fannkuch N: permutations. For every permutation of 1..N: how many times can the first K elements
be reversed, K being the first element, until the first element is 1? Prints a checksum that adds
and subtracts the counts in turn, and the largest count.
"""

import sys


def reverse_range(values, low, high):
    """Reverse values[low..high], both ends included."""
    while low < high:
        values[low], values[high] = values[high], values[low]
        low += 1
        high -= 1


def flips(permutation):
    """Values run from 0 here: a first element of K stands for reversing K + 1 elements."""
    work = permutation[:]
    count = 0
    while work[0]:
        reverse_range(work, 0, work[0])
        count += 1
    return count


def fannkuch(n):
    permutation = list(range(n))
    # An odometer of rotations: turns[i] counts how often the first i + 1 elements have been turned;
    # a full round carries into the next longer prefix.
    turns = [0] * n
    checksum = largest = 0
    sign = 1
    while True:
        count = flips(permutation)
        checksum += sign * count
        largest = max(largest, count)
        sign = -sign
        for last in range(1, n):
            permutation.insert(last, permutation.pop(0))
            if turns[last] < last:
                turns[last] += 1
                break
            turns[last] = 0
        else:
            return checksum, largest


def main(n):
    checksum, largest = fannkuch(n)
    print(f"{checksum}\nPfannkuchen({n}) = {largest}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
