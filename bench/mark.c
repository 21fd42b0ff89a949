#include "bench/mark.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>

Mark *marks_open(Backend *be, int count)
{
    Mark *marks = mem_zeroed((size_t)count, sizeof *marks);
    for (int i = 0; i < count; i++) {
        marks[i].event = device_event_open(be);
    }
    return marks;
}

void marks_close(Backend *be, Mark *marks, int count)
{
    for (int i = 0; i < count; i++) {
        device_event_close(be, marks[i].event);
    }
    free(marks);
}

void mark_set(Backend *be, Mark *mark)
{
    mark->seconds = clock_seconds();
    device_event_record(be, mark->event);
}

double mark_ms(Backend *be, const Mark *from, const Mark *to)
{
    if (from->event == NULL) {
        return 1e3 * (to->seconds - from->seconds);
    }
    device_event_wait(be, from->event);
    device_event_wait(be, to->event);
    return device_event_ms(be, from->event, to->event);
}
