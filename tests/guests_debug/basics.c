// What a debugger looks at: functions to stop in, variables, registers, a string to change.
#include <stdio.h>
#include <stdlib.h>

int counter;
char message[32] = "unchanged";
double ratio = 0.5;

__attribute__((noinline)) int leaf(int depth, int value)
{
    counter++;
    return value * 2 + depth;
}

__attribute__((noinline)) int nest(int depth, int value)
{
    if (depth == 0)
        return leaf(depth, value);
    return nest(depth - 1, value) + 1;
}

int main(int argc, char **argv)
{
    int sum = 0;
    (void)argv;
    for (int i = 0; i < 3; i++)
        sum += nest(i, argc);
    printf("sum %d, counter %d, %s, %.2f\n", sum, counter, message, ratio);
    return sum & 63;
}
