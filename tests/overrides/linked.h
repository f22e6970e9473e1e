#include <stdint.h>

int64_t linked_number(void);
int64_t linked_pid(void);
long linked_fresh(long value);
