"""An ordinary program: it stamps records with the number of its process, as loggers do."""

import os

total = 0
for number in range(50_000):
    record = (os.getpid(), number)
    total += record[1]
print(total)
