#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"
#include "train/settings_table.h"

#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What libcyaml says about a file that it refuses: its message, then a backtrace, innermost first.
 */
typedef struct {
    char message[512];
    char field[128]; /* the key whose value was being read; "" if none */
    unsigned line;   /* 0: not told */
} Complaint;

static void take_log(cyaml_log_t level, void *context, const char *format, va_list args)
{
    Complaint *complaint = context;
    char line[sizeof complaint->message];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    const char *text = text_starts_with(line, "Load: ") ? line + strlen("Load: ") : line;
    const char *at = strstr(text, "(line: ");
    if (level < CYAML_LOG_ERROR || text_starts_with(text, "Backtrace")) {
        return;
    }
    if (complaint->message[0] == '\0') {
        snprintf(complaint->message, sizeof complaint->message, "%s", text);
    } else if (at && complaint->line == 0) {
        complaint->line = (unsigned)strtoul(at + strlen("(line: "), NULL, 10);
        const char *quote = strchr(text, '\'');
        if (quote) {
            snprintf(complaint->field, sizeof complaint->field, "%.*s",
                     (int)strcspn(quote + 1, "'"), quote + 1);
        }
    }
}

static void *resize(void *context, void *block, size_t bytes)
{
    (void)context;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return mem_resize(block, bytes);
}

static bool is_key_at(const char *line, const char *at, size_t length)
{
    const char *end = at + length;
    if (at > line && !strchr(" \t{,\"'", at[-1])) {
        return false;
    }
    end += *end == '"' || *end == '\'';
    end += strspn(end, " \t");
    return *end == ':';
}

/* The line (from 1) on which key stands for the nth time, n from 1; 0 if it does not. libcyaml
 * names the line of the last value that it understood, which is often the one before. */
static unsigned find_key(const char *yaml, const char *key, int nth)
{
    size_t length = strlen(key);
    unsigned number = 0;
    for (const char *line = yaml; *line;) {
        size_t bytes = strcspn(line, "\n");
        const char *comment = memchr(line, '#', bytes);
        const char *end = comment ? comment : line + bytes;
        number++;
        for (const char *at = line; length > 0 && at + length <= end; at++) {
            if (memcmp(at, key, length) == 0 && is_key_at(line, at, length) && --nth == 0) {
                return number;
            }
        }
        line += bytes + (line[bytes] == '\n');
    }
    return 0;
}

/* The line on which a second YAML document begins, 0 if there is one only: libcyaml would pass over
 * it in silence. */
static unsigned find_second_document(const char *yaml)
{
    unsigned number = 0;
    bool content = false;
    for (const char *line = yaml; *line;) {
        number++;
        bool marker = text_starts_with(line, "---");
        if (marker && content) {
            return number;
        }
        content = content || marker || !strchr("#%\n", line[strspn(line, " \t\r")]);
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return 0;
}

static int explain(const char *path, const char *yaml, const Complaint *complaint, Err *err)
{
    static const char unknown[] = "Unexpected key: ";
    static const char twice[] = "Mapping field already seen: ";
    static const char shape[] = "Expecting STRING";
    const char *message = complaint->message;
    unsigned line = complaint->line;
    if (text_starts_with(message, unknown)) {
        const char *key = message + strlen(unknown);
        line = find_key(yaml, key, 1);
        return err_set(err, "%s:%u: unknown setting '%s'; configs/default.yaml lists all of them",
                       path, line ? line : complaint->line, key);
    }
    if (text_starts_with(message, twice)) {
        const char *key = message + strlen(twice);
        line = find_key(yaml, key, 2);
        return err_set(err, "%s:%u: %s is set a second time: keep one", path,
                       line ? line : complaint->line, key);
    }
    if (text_starts_with(message, shape) && complaint->field[0]) {
        return err_set(err, "%s:%u: %s: takes one value, not a list or a mapping", path, line,
                       complaint->field);
    }
    if (line == 0) {
        return err_set(err, "%s: not a YAML file of lines 'setting: value' (%s)", path, message);
    }
    return err_set(err, "%s:%u: not a line 'setting: value' (%s)", path, line, message);
}

/* All values are taken as texts and read by the same code as the command line's: libcyaml's own
 * conversions are lax (any word is a true flag). */
static cyaml_schema_field_t *make_fields(void)
{
    size_t count = setting_count();
    cyaml_schema_field_t *fields = mem_zeroed(count + 1, sizeof *fields);
    for (size_t i = 0; i < count; i++) {
        cyaml_schema_field_t field = {
            .key = setting_at(i)->name,
            .data_offset = (uint32_t)(i * sizeof(char *)),
            .value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, char, 0,
                                         CYAML_UNLIMITED)},
        };
        memcpy(&fields[i], &field, sizeof field);
    }
    return fields;
}

static int take_values(Settings *settings, char *const *values, const char *path, const char *yaml,
                       Err *err)
{
    const Setting *setting;
    for (size_t i = 0; (setting = setting_at(i)); i++) {
        if (values[i] && setting_parse(settings, setting, setting->name, values[i], err) != 0) {
            unsigned line = find_key(yaml, setting->name, 1);
            return line ? err_context(err, "%s:%u", path, line) : err_context(err, "%s", path);
        }
    }
    return 0;
}

int settings_parse_yaml(Settings *settings, const char *yaml, const char *name, Err *err)
{
    unsigned second = find_second_document(yaml);
    if (second > 0) {
        return err_set(err, "%s:%u: a second document begins here ('---'): keep one", name, second);
    }
    Complaint complaint = {0};
    const cyaml_config_t config = {.log_fn = take_log,
                                   .log_ctx = &complaint,
                                   .mem_fn = resize,
                                   .log_level = CYAML_LOG_WARNING};
    cyaml_schema_field_t *fields = make_fields();
    const cyaml_schema_value_t schema = {
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_POINTER,
        .data_size = (uint32_t)(setting_count() * sizeof(char *)),
        .mapping = {.fields = fields},
    };
    int rc = 0;
    cyaml_data_t *values = NULL;
    cyaml_err_t status =
        cyaml_load_data((const uint8_t *)yaml, strlen(yaml), &config, &schema, &values, NULL);
    if (status != CYAML_OK) {
        if (complaint.message[0] == '\0') {
            snprintf(complaint.message, sizeof complaint.message, "%s", cyaml_strerror(status));
        }
        rc = explain(name, yaml, &complaint, err);
    } else if (values) {
        rc = take_values(settings, values, name, yaml, err);
    }
    cyaml_free(&config, &schema, values, 0);
    free(fields);
    return rc;
}

int settings_read_yaml(Settings *settings, const char *path, Err *err)
{
    size_t bytes;
    char *yaml = path_read(path, &bytes, err);
    int rc = yaml ? 0 : -1;
    if (rc == 0 && strlen(yaml) != bytes) {
        rc = err_set(err, "%s: not a text file: it holds a zero byte", path);
    }
    if (rc == 0) {
        rc = settings_parse_yaml(settings, yaml, path, err);
    }
    free(yaml);
    return rc;
}

/* text in double quotes. Everything but plain ASCII is escaped, so that no rule of YAML about line
 * breaks or blanks can touch it. text is well-formed UTF-8. */
static void write_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    uint32_t point = 0;
    for (const char *c = text; *c; c += text_first_character(c, &point)) {
        if (*c >= 0x20 && *c < 0x7F) {
            fprintf(out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        } else {
            text_first_character(c, &point);
            fprintf(out, "\\U%08X", (unsigned)point);
        }
    }
    fputc('"', out);
}

char *settings_to_yaml(const Settings *settings)
{
    char *yaml = NULL;
    size_t bytes;
    FILE *out = open_memstream(&yaml, &bytes);
    if (!out) {
        fatal("no memory for the settings as text");
    }
    const Setting *setting;
    for (size_t i = 0; (setting = setting_at(i)); i++) {
        char *text = setting_text(settings, setting);
        bool quoted = setting->kind == SETTING_TEXT || setting->kind == SETTING_NAMEPART;
        if (quoted && text) {
            fprintf(out, "%s: ", setting->name);
            write_quoted(out, text);
            fputc('\n', out);
        } else {
            /* A key without a value is how a text that is not given is written. */
            fprintf(out, text ? "%s: %s\n" : "%s:\n", setting->name, text);
        }
        free(text);
    }
    if (fclose(out) != 0) {
        fatal("no memory for the settings as text");
    }
    return yaml;
}
