/* Points in time for benchmarks: device events where work is asynchronous, the host's clock where a
 * call returns only when its work has run. */
#ifndef RODEO_BENCH_MARK_H
#define RODEO_BENCH_MARK_H

#include "kernels/device.h"

typedef struct {
    DeviceEvent *event; /* NULL: seconds count */
    double seconds;
} Mark;

/* count marks, to be given to marks_close. */
Mark *marks_open(Backend *be, int count);
void marks_close(Backend *be, Mark *marks, int count);

/* Marks the work enqueued so far. */
void mark_set(Backend *be, Mark *mark);

/* Milliseconds from one mark to the other; waits for both. */
double mark_ms(Backend *be, const Mark *from, const Mark *to);

#endif
