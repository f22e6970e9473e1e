// A program that makes an HRT for itself and calls a function in it, on its live data.
#include <multiverse.h>

#include <stdio.h>
#include <stdlib.h>

static uint64_t sum(const uint64_t *numbers, uint64_t count)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++)
        total += numbers[i];
    printf("in the HRT: %s\n", mv_in_hrt() ? "yes" : "no");
    return total;
}

int main(void)
{
    enum { COUNT = 1000 };
    struct mv_hrt *hrt;
    uint64_t *numbers = malloc(COUNT * sizeof(*numbers)), total;
    for (uint64_t i = 0; i < COUNT; i++)
        numbers[i] = i;
    if (mv_hrt_create(NULL, &hrt)) {
        fprintf(stderr, "sum: %s\n", mv_error());
        return 125;
    }
    printf("ring %d\n", mv_hrt_ring(hrt));
    if (mv_hrt_call(hrt, &total, (void *)sum, 2, (uint64_t[]){(uint64_t)numbers, COUNT})) {
        fprintf(stderr, "sum: %s\n", mv_error());
        return 1;
    }
    printf("sum %llu\n", (unsigned long long)total);
    // A pointer that leads nowhere ends the call, not the program.
    if (mv_hrt_call(hrt, NULL, (void *)sum, 2, (uint64_t[]){16, COUNT}))
        printf("expected: %s\n", mv_error());
    mv_hrt_destroy(hrt);
    free(numbers);
    return 0;
}
