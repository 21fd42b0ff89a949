#include "base/log.h"

#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct Log {
    FILE *results;
    FILE *notes;
    FILE *file;       /* NULL until log_tee */
    char *path;       /* of file */
    bool file_failed; /* already told */
    bool terminal;
    char *status; /* what stands in the status line; NULL: nothing */
    pthread_mutex_t lock;
};

Log *log_open(FILE *results, FILE *notes)
{
    Log *log = mem_zeroed(1, sizeof *log);
    log->results = results;
    log->notes = notes;
    log->terminal = isatty(fileno(notes)) == 1;
    pthread_mutex_init(&log->lock, NULL);
    return log;
}

/* A run that was killed may have left half a line: the next one begins on its own. */
static void end_torn_line(FILE *file)
{
    if (fseek(file, -1, SEEK_END) == 0) {
        int last = fgetc(file);
        fseek(file, 0, SEEK_END);
        if (last != EOF && last != '\n') {
            fputc('\n', file);
        }
    }
}

int log_tee(Log *log, const char *path, Err *err)
{
    FILE *file = fopen(path, "a+e");
    if (!file) {
        return err_set(err, "%s: cannot append to the log: %s", path, strerror(errno));
    }
    end_torn_line(file);
    pthread_mutex_lock(&log->lock);
    if (log->file) {
        fclose(log->file);
    }
    free(log->path);
    log->file = file;
    log->path = mem_string(path);
    log->file_failed = false;
    pthread_mutex_unlock(&log->lock);
    return 0;
}

static int terminal_columns(FILE *stream)
{
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return 80;
}

static void erase_status(Log *log)
{
    if (log->status) {
        fputs("\r\033[K", log->notes);
    }
}

static void draw_status(Log *log)
{
    if (log->status) {
        /* One column short of the width: a full line would wrap and could not be redrawn. */
        fprintf(log->notes, "\r%.*s\033[K", terminal_columns(log->notes) - 1, log->status);
        fflush(log->notes);
    }
}

static void tee(Log *log, const char *prefix, const char *text)
{
    if (!log->file) {
        return;
    }
    if ((fprintf(log->file, "%s%s\n", prefix, text) < 0 || fflush(log->file) != 0) &&
        !log->file_failed) {
        log->file_failed = true;
        fprintf(log->notes, "warning: %s: cannot write the log: %s; going on without it\n",
                log->path, strerror(errno));
        fflush(log->notes);
    }
}

/* keep: whether the line also goes to the log file. */
static void emit(Log *log, FILE *stream, bool keep, const char *prefix, const char *format,
                 va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0) {
        fatal("out of memory: could not format a log line");
    }
    pthread_mutex_lock(&log->lock);
    erase_status(log);
    if (log->status) {
        fflush(log->notes);
    }
    fprintf(stream, "%s%s\n", prefix, text);
    fflush(stream);
    if (keep) {
        tee(log, prefix, text);
    }
    draw_status(log);
    pthread_mutex_unlock(&log->lock);
    free(text);
}

void log_result(Log *log, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit(log, log->results, true, "", format, args);
    va_end(args);
}

void log_note(Log *log, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit(log, log->notes, true, "", format, args);
    va_end(args);
}

void log_note_text(void *log, const char *text)
{
    log_note(log, "%s", text);
}

void log_passing(Log *log, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit(log, log->notes, false, "", format, args);
    va_end(args);
}

void log_warning(Log *log, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit(log, log->notes, true, "warning: ", format, args);
    va_end(args);
}

bool log_has_terminal(const Log *log)
{
    return log->terminal;
}

void log_status(Log *log, const char *text)
{
    if (!log->terminal) {
        return;
    }
    pthread_mutex_lock(&log->lock);
    if (text && text[0]) {
        free(log->status);
        log->status = mem_string(text);
        draw_status(log);
    } else if (log->status) {
        erase_status(log);
        fflush(log->notes);
        free(log->status);
        log->status = NULL;
    }
    pthread_mutex_unlock(&log->lock);
}

void log_close(Log *log)
{
    if (!log) {
        return;
    }
    log_status(log, NULL);
    if (log->file) {
        fclose(log->file);
    }
    pthread_mutex_destroy(&log->lock);
    free(log->path);
    free(log);
}
