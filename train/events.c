#include "train/events.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/path.h"
#include "train/event_record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TENSOR_OF_STRINGS = 7,
    SESSION_START = 1,
};

struct EventWriter {
    FILE *file;
    char *path;
};

static int fail(const EventWriter *writer, const char *doing, Err *err)
{
    return err_set(err, "%s: cannot %s: %s", writer->path, doing, strerror(errno));
}

static int write_event(EventWriter *writer, Tb__Event *event, Err *err)
{
    event->wall_time = clock_unix();
    size_t bytes;
    uint8_t *record = event_record_pack(event, &bytes);
    int rc = fwrite(record, 1, bytes, writer->file) == bytes ? 0 : fail(writer, "write", err);
    free(record);
    return rc;
}

/* Opens a file that was not there before: two runs started in one second must not share one. */
static int create_file(EventWriter *writer, const char *folder, Err *err)
{
    char host[HOST_NAME_MAX + 1] = "";
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') {
        snprintf(host, sizeof host, "localhost");
    }
    int fd = -1;
    for (int n = 0; fd < 0; n++) {
        char *name = mem_format("events.out.tfevents.%010.0f.%s.%ld.%d", clock_unix(), host,
                                (long)getpid(), n);
        free(writer->path);
        writer->path = path_join(folder, name);
        free(name);
        fd = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) {
            return fail(writer, "create", err);
        }
    }
    writer->file = fdopen(fd, "wb");
    if (!writer->file) {
        fail(writer, "open", err);
        close(fd);
        return -1;
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
    if (create_file(writer, folder, err) != 0 || write_event(writer, &first, err) != 0 ||
        (purge_from >= 0 && write_event(writer, &purge, err) != 0) ||
        events_flush(writer, err) != 0) {
        events_close(writer);
        return NULL;
    }
    return writer;
}

static int write_value(EventWriter *writer, Tb__Value *value, int64_t step, Err *err)
{
    Tb__Summary summary = TB__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    Tb__Event event = TB__EVENT__INIT;
    event.step = step;
    event.what_case = TB__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return write_event(writer, &event, err);
}

int events_scalar(EventWriter *writer, const char *tag, double value, int64_t step, Err *err)
{
    char *name = mem_string(tag); /* protobuf-c's strings are not const */
    Tb__Value scalar = TB__VALUE__INIT;
    scalar.tag = name;
    scalar.value_case = TB__VALUE__VALUE_SIMPLE_VALUE;
    scalar.simple_value = (float)value;
    int rc = write_value(writer, &scalar, step, err);
    free(name);
    return rc;
}

int events_text(EventWriter *writer, const char *tag, const char *text, int64_t step, Err *err)
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
    int rc = write_value(writer, &value, step, err);
    free(copy);
    free(name);
    return rc;
}

int events_flush(EventWriter *writer, Err *err)
{
    if (fflush(writer->file) != 0 || fsync(fileno(writer->file)) != 0) {
        return fail(writer, "write", err);
    }
    return 0;
}

void events_close(EventWriter *writer)
{
    if (writer) {
        if (writer->file) {
            fclose(writer->file); /* what must last was flushed, and checked, before */
        }
        free(writer->path);
        free(writer);
    }
}
