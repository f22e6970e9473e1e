#include <stdint.h>

int64_t probe_parent(void);
int64_t probe_nothing(void);
int64_t probe_time(void *to);
int64_t probe_locked(void);
int64_t probe_number(int64_t number);
long probe_deep(long depth);
void probe_poke(char *where);
long probe_locked_turns(long turns);
int64_t probe_doubled(int64_t value);
long probe_signalled(long process, long signal, char *where);
