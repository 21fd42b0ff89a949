#include "train/events.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "train/event_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "events.out.tfevents."

enum {
    TENSOR_OF_STRINGS = 7,
    SESSION_START = 1,
};

struct EventWriter {
    int fd; /* -1 before create_file */
    char *path;
    double time; /* NAN: the clock's */
    /* Records that are not in the file yet. */
    uint8_t *pending;
    size_t bytes;
};

static int fail(const EventWriter *writer, const char *doing, Err *err)
{
    return err_set(err, "%s: cannot %s: %s", writer->path, doing, strerror(errno));
}

static void add_event(EventWriter *writer, Tb__Event *event)
{
    event->wall_time = isnan(writer->time) ? clock_unix() : writer->time;
    size_t bytes;
    uint8_t *record = event_record_pack(event, &bytes);
    writer->pending = mem_resize(writer->pending, writer->bytes + bytes);
    memcpy(writer->pending + writer->bytes, record, bytes);
    writer->bytes += bytes;
    free(record);
}

/* The seconds in the name of a new file: now, or behind those of every file that is there. */
static long long next_seconds(const char *folder)
{
    long long seconds = (long long)clock_unix();
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        long long there = text_starts_with(entry->d_name, PREFIX)
                              ? strtoll(entry->d_name + strlen(PREFIX), NULL, 10)
                              : 0;
        seconds = there >= seconds ? there + 1 : seconds;
    }
    if (entries) {
        closedir(entries);
    }
    return seconds;
}

/* Opens a file that was not there before: two runs started in one second must not share one. */
static int create_file(EventWriter *writer, const char *folder, Err *err)
{
    char host[HOST_NAME_MAX + 1] = "";
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') {
        snprintf(host, sizeof host, "localhost");
    }
    for (int n = 0; writer->fd < 0; n++) {
        char *name =
            mem_format(PREFIX "%010lld.%s.%ld.%d", next_seconds(folder), host, (long)getpid(), n);
        free(writer->path);
        writer->path = path_join(folder, name);
        free(name);
        writer->fd = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd < 0 && errno != EEXIST) {
            return fail(writer, "create", err);
        }
    }
    return 0;
}

EventWriter *events_open(const char *folder, int64_t purge_from, Err *err)
{
    char version[] = "brain.Event:2"; /* purging needs this version before it */
    Tb__Event first = TB__EVENT__INIT;
    first.what_case = TB__EVENT__WHAT_FILE_VERSION;
    first.file_version = version;

    Tb__SessionLog start = TB__SESSION_LOG__INIT;
    start.status = SESSION_START;
    Tb__Event purge = TB__EVENT__INIT;
    purge.step = purge_from;
    purge.what_case = TB__EVENT__WHAT_SESSION_LOG;
    purge.session_log = &start;

    EventWriter *writer = mem_zeroed(1, sizeof *writer);
    writer->fd = -1;
    writer->time = NAN;
    if (create_file(writer, folder, err) != 0) {
        events_close(writer);
        return NULL;
    }
    add_event(writer, &first);
    if (purge_from >= 0) {
        add_event(writer, &purge);
    }
    if (events_flush(writer, err) != 0) {
        events_close(writer);
        return NULL;
    }
    return writer;
}

void events_set_time(EventWriter *writer, double seconds)
{
    writer->time = seconds;
}

static void add_value(EventWriter *writer, Tb__Value *value, int64_t step)
{
    Tb__Summary summary = TB__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    Tb__Event event = TB__EVENT__INIT;
    event.step = step;
    event.what_case = TB__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    add_event(writer, &event);
}

void events_scalar(EventWriter *writer, const char *tag, double value, int64_t step)
{
    char *name = mem_string(tag); /* protobuf-c's strings are not const */
    Tb__Value scalar = TB__VALUE__INIT;
    scalar.tag = name;
    scalar.value_case = TB__VALUE__VALUE_SIMPLE_VALUE;
    scalar.simple_value = (float)value;
    add_value(writer, &scalar, step);
    free(name);
}

void events_text(EventWriter *writer, const char *tag, const char *text, int64_t step)
{
    char *name = mem_format("%s/text_summary", tag);
    char *copy = mem_string(text);
    char plugin_name[] = "text";
    ProtobufCBinaryData string = {.len = strlen(copy), .data = (uint8_t *)copy};

    Tb__PluginData plugin = TB__PLUGIN_DATA__INIT;
    plugin.plugin_name = plugin_name;
    Tb__SummaryMetadata metadata = TB__SUMMARY_METADATA__INIT;
    metadata.plugin_data = &plugin;

    Tb__Dim dim = TB__DIM__INIT;
    Tb__Dim *dims = &dim;
    dim.size = 1;
    Tb__TensorShape shape = TB__TENSOR_SHAPE__INIT;
    shape.n_dim = 1;
    shape.dim = &dims;
    Tb__Tensor tensor = TB__TENSOR__INIT;
    tensor.dtype = TENSOR_OF_STRINGS;
    tensor.tensor_shape = &shape;
    tensor.n_string_val = 1;
    tensor.string_val = &string;

    Tb__Value value = TB__VALUE__INIT;
    value.tag = name;
    value.metadata = &metadata;
    value.value_case = TB__VALUE__VALUE_TENSOR;
    value.tensor = &tensor;
    add_value(writer, &value, step);
    free(copy);
    free(name);
}

int events_flush(EventWriter *writer, Err *err)
{
    size_t done = 0;
    while (done < writer->bytes) {
        ssize_t written = write(writer->fd, writer->pending + done, writer->bytes - done);
        if (written < 0 && errno != EINTR) {
            return fail(writer, "write", err);
        }
        done += written > 0 ? (size_t)written : 0;
    }
    writer->bytes = 0;
    return fsync(writer->fd) == 0 ? 0 : fail(writer, "write through to the disk", err);
}

void events_close(EventWriter *writer)
{
    if (writer) {
        if (writer->fd >= 0) {
            close(writer->fd); /* what must last was flushed, and checked, before */
        }
        free(writer->pending);
        free(writer->path);
        free(writer);
    }
}
