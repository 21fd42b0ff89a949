#include "model/pickle.h"

#include "base/mem.h"
#include "model/pickle_build.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Pickle *pickle;
    const unsigned char *data;
    size_t bytes, at;
    PickleValue **stack;
    size_t depth, stack_room;
    PickleValue **memo; /* NULL where nothing was stored */
    size_t memo_room;
    Err *err;
} Reader;

/* ---- reading bytes --------------------------------------------------------------------------- */

static int fail(Reader *r, const char *what)
{
    return err_set(r->err, "%s (at byte %zu of its pickle)", what, r->at);
}

/* The next `count` bytes, or NULL and err. */
static const unsigned char *take(Reader *r, size_t count)
{
    if (count > r->bytes - r->at) {
        fail(r, "it is cut off");
        return NULL;
    }
    const unsigned char *bytes = r->data + r->at;
    r->at += count;
    return bytes;
}

/* An unsigned little-endian number of up to 4 bytes. */
static int take_number(Reader *r, size_t bytes, uint32_t *number)
{
    const unsigned char *from = take(r, bytes);
    *number = 0;
    for (size_t i = 0; from && i < bytes; i++) {
        *number |= (uint32_t)from[i] << (8 * i);
    }
    return from ? 0 : -1;
}

/* Text up to a line's end, which is skipped: a part of a name. */
static const char *take_line(Reader *r)
{
    const unsigned char *start = r->data + r->at;
    const unsigned char *end = memchr(start, '\n', r->bytes - r->at);
    if (!end) {
        fail(r, "it is cut off");
        return NULL;
    }
    size_t length = (size_t)(end - start);
    char *line = pickle_memory(r->pickle, length + 1);
    memcpy(line, start, length);
    line[length] = '\0';
    r->at += length + 1;
    return line;
}

/* ---- the stack and the memo ------------------------------------------------------------------ */

static int push(Reader *r, PickleValue *value)
{
    if (!value) {
        return -1;
    }
    if (r->depth == r->stack_room) {
        r->stack_room *= 2;
        r->stack = mem_resize(r->stack, r->stack_room * sizeof(PickleValue *));
    }
    r->stack[r->depth++] = value;
    return 0;
}

/* The value on top, taken off; a mark or nothing is an error. */
static PickleValue *pop(Reader *r)
{
    if (r->depth == 0 || r->stack[r->depth - 1]->kind == PICKLE_MARK) {
        fail(r, "its stack runs empty: the file is damaged");
        return NULL;
    }
    return r->stack[--r->depth];
}

static PickleValue *top(Reader *r)
{
    PickleValue *value = pop(r);
    r->depth += value != NULL;
    return value;
}

/* Where the values behind the topmost mark begin. */
static int find_mark(Reader *r, size_t *first)
{
    *first = 0;
    for (size_t i = r->depth; i > 0; i--) {
        if (r->stack[i - 1]->kind == PICKLE_MARK) {
            *first = i;
            return 0;
        }
    }
    return fail(r, "a mark is missing: the file is damaged");
}

static int memo_put(Reader *r, uint32_t index)
{
    PickleValue *value = top(r);
    if (!value) {
        return -1;
    }
    if (index >= PICKLE_MAX_VALUES) {
        return fail(r, "it remembers more values than a state dict has");
    }
    if (index >= r->memo_room) {
        size_t room = 2 * (size_t)index + 64;
        r->memo = mem_resize(r->memo, room * sizeof(PickleValue *));
        memset(r->memo + r->memo_room, 0, (room - r->memo_room) * sizeof(PickleValue *));
        r->memo_room = room;
    }
    r->memo[index] = value;
    return 0;
}

static int memo_get(Reader *r, uint32_t index)
{
    if (index >= r->memo_room || !r->memo[index]) {
        return fail(r, "it refers to a value that it has not stored: the file is damaged");
    }
    return push(r, r->memo[index]);
}

/* ---- instructions ---------------------------------------------------------------------------- */

static int push_kind(Reader *r, PickleKind kind)
{
    return push(r, pickle_value(r->pickle, kind, r->err));
}

static int push_integer(Reader *r, PickleKind kind, int64_t integer)
{
    PickleValue *value = pickle_value(r->pickle, kind, r->err);
    if (value) {
        value->integer = integer;
    }
    return push(r, value);
}

static int push_unsigned(Reader *r, size_t bytes)
{
    uint32_t number;
    return take_number(r, bytes, &number) == 0 ? push_integer(r, PICKLE_INT, number) : -1;
}

static int push_signed(Reader *r)
{
    uint32_t number;
    return take_number(r, 4, &number) == 0 ? push_integer(r, PICKLE_INT, (int32_t)number) : -1;
}

/* A text, or the bytes of a long integer: both are kept with a '\0' behind them. */
static int push_bytes(Reader *r, PickleKind kind, size_t length)
{
    const unsigned char *from = take(r, length);
    PickleValue *value = from ? pickle_value(r->pickle, kind, r->err) : NULL;
    if (!value) {
        return -1;
    }
    if (kind == PICKLE_TEXT && memchr(from, '\0', length)) {
        return fail(r, "a text holds a zero byte");
    }
    char *text = pickle_memory(r->pickle, length + 1);
    memcpy(text, from, length);
    text[length] = '\0';
    value->text = text;
    value->length = length;
    return push(r, value);
}

static int push_text(Reader *r, size_t length_bytes)
{
    uint32_t length;
    return take_number(r, length_bytes, &length) == 0 ? push_bytes(r, PICKLE_TEXT, length) : -1;
}

/* LONG1: a length byte and a little-endian number in two's complement. */
static int push_long(Reader *r)
{
    uint32_t length;
    if (take_number(r, 1, &length) != 0) {
        return -1;
    }
    if (length > sizeof(uint64_t)) {
        return push_bytes(r, PICKLE_LONG, length);
    }
    const unsigned char *from = take(r, length);
    if (!from) {
        return -1;
    }
    uint64_t number = length > 0 && from[length - 1] & 0x80 ? UINT64_MAX : 0;
    for (uint32_t i = length; i > 0; i--) {
        number = number << 8 | from[i - 1];
    }
    return push_integer(r, PICKLE_INT, (int64_t)number);
}

static int push_float(Reader *r)
{
    const unsigned char *from = take(r, sizeof(double));
    PickleValue *value = from ? pickle_value(r->pickle, PICKLE_FLOAT, r->err) : NULL;
    if (!value) {
        return -1;
    }
    uint64_t bits = 0;
    for (size_t i = 0; i < sizeof bits; i++) {
        bits = bits << 8 | from[i];
    }
    memcpy(&value->real, &bits, sizeof bits);
    return push(r, value);
}

static int push_name(Reader *r)
{
    const char *module = take_line(r);
    const char *name = module ? take_line(r) : NULL;
    return name ? push(r, pickle_name(r->pickle, module, name, r->err)) : -1;
}

/* A tuple of the topmost values from `first` on, which also takes a mark below them away. */
static int make_tuple(Reader *r, size_t first, bool marked)
{
    PickleValue *tuple = pickle_value(r->pickle, PICKLE_TUPLE, r->err);
    if (!tuple) {
        return -1;
    }
    for (size_t i = first; i < r->depth; i++) {
        pickle_append(tuple, r->stack[i]);
    }
    r->depth = first - marked;
    return push(r, tuple);
}

static int make_short_tuple(Reader *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i >= r->depth || r->stack[r->depth - 1 - i]->kind == PICKLE_MARK) {
            return fail(r, "its stack runs empty: the file is damaged");
        }
    }
    return make_tuple(r, r->depth - count, false);
}

static int make_marked_tuple(Reader *r)
{
    size_t first;
    return find_mark(r, &first) == 0 ? make_tuple(r, first, true) : -1;
}

/* Moves the values from `first` on into the list or dict below them (and below their mark). */
static int fill_container(Reader *r, PickleKind kind, size_t first, bool marked)
{
    size_t below = first - marked;
    if (below == 0 || r->stack[below - 1]->kind != kind) {
        return fail(r, "items go into something that cannot hold them: the file is damaged");
    }
    if (kind == PICKLE_DICT && (r->depth - first) % 2 != 0) {
        return fail(r, "a key has no value: the file is damaged");
    }
    PickleValue *container = r->stack[below - 1];
    for (size_t i = first; i < r->depth; i++) {
        bool key = kind == PICKLE_DICT && (i - first) % 2 == 0;
        if (key && r->stack[i]->kind != PICKLE_TEXT && r->stack[i]->kind != PICKLE_INT) {
            return fail(r, "a key is neither text nor a whole number");
        }
        pickle_append(container, r->stack[i]);
    }
    r->depth = below;
    return 0;
}

static int fill_marked(Reader *r, PickleKind kind)
{
    size_t first;
    return find_mark(r, &first) == 0 ? fill_container(r, kind, first, true) : -1;
}

static int fill_few(Reader *r, PickleKind kind, size_t count)
{
    for (size_t i = 0; i <= count; i++) {
        if (i >= r->depth || r->stack[r->depth - 1 - i]->kind == PICKLE_MARK) {
            return fail(r, "its stack runs empty: the file is damaged");
        }
    }
    return fill_container(r, kind, r->depth - count, false);
}

static int call(Reader *r)
{
    const PickleValue *arguments = pop(r);
    const PickleValue *callable = arguments ? pop(r) : NULL;
    return callable ? push(r, pickle_call(r->pickle, callable, arguments, r->err)) : -1;
}

/* BUILD gives an object attributes. A state dict has one, the modules' versions, which nobody
 * needs: checked and dropped. */
static int build(Reader *r)
{
    const PickleValue *attributes = pop(r);
    const PickleValue *object = attributes ? top(r) : NULL;
    if (!object) {
        return -1;
    }
    if (object->kind != PICKLE_DICT || attributes->kind != PICKLE_DICT) {
        return fail(r, "it gives attributes to something else than a dict");
    }
    return 0;
}

static int persistent_id(Reader *r)
{
    const PickleValue *id = pop(r);
    return id ? push(r, pickle_storage(r->pickle, id, r->err)) : -1;
}

static int memo(Reader *r, size_t bytes, int (*use)(Reader *, uint32_t))
{
    uint32_t index;
    return take_number(r, bytes, &index) == 0 ? use(r, index) : -1;
}

static int protocol(Reader *r)
{
    const unsigned char *version = take(r, 1);
    if (version && *version != 2) {
        return err_set(r->err,
                       "it is pickled with protocol %d: save it with torch.save's own protocol, 2",
                       *version);
    }
    return version ? 0 : -1;
}

/* Runs one instruction; the names are those of Python's pickletools. */
static int run(Reader *r, unsigned char instruction)
{
    switch (instruction) {
    case 0x80: /* PROTO */
        return protocol(r);
    case 'N': /* NONE */
        return push_kind(r, PICKLE_NONE);
    case 0x88: /* NEWTRUE */
        return push_integer(r, PICKLE_BOOL, 1);
    case 0x89: /* NEWFALSE */
        return push_integer(r, PICKLE_BOOL, 0);
    case 'K': /* BININT1 */
        return push_unsigned(r, 1);
    case 'M': /* BININT2 */
        return push_unsigned(r, 2);
    case 'J': /* BININT */
        return push_signed(r);
    case 0x8a: /* LONG1 */
        return push_long(r);
    case 'G': /* BINFLOAT */
        return push_float(r);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        return push_text(r, 4);
    case 'U': /* SHORT_BINSTRING */
        return push_text(r, 1);
    case ')': /* EMPTY_TUPLE */
        return push_kind(r, PICKLE_TUPLE);
    case ']': /* EMPTY_LIST */
        return push_kind(r, PICKLE_LIST);
    case '}': /* EMPTY_DICT */
        return push_kind(r, PICKLE_DICT);
    case '(': /* MARK */
        return push_kind(r, PICKLE_MARK);
    case 't': /* TUPLE */
        return make_marked_tuple(r);
    case 0x85: /* TUPLE1, 2, 3 */
    case 0x86:
    case 0x87:
        return make_short_tuple(r, instruction - 0x84u);
    case 'a': /* APPEND */
        return fill_few(r, PICKLE_LIST, 1);
    case 'e': /* APPENDS */
        return fill_marked(r, PICKLE_LIST);
    case 's': /* SETITEM */
        return fill_few(r, PICKLE_DICT, 2);
    case 'u': /* SETITEMS */
        return fill_marked(r, PICKLE_DICT);
    case 'q': /* BINPUT */
        return memo(r, 1, memo_put);
    case 'r': /* LONG_BINPUT */
        return memo(r, 4, memo_put);
    case 'h': /* BINGET */
        return memo(r, 1, memo_get);
    case 'j': /* LONG_BINGET */
        return memo(r, 4, memo_get);
    case 'c': /* GLOBAL */
        return push_name(r);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ: the same for a class */
        return call(r);
    case 'b': /* BUILD */
        return build(r);
    case 'Q': /* BINPERSID */
        return persistent_id(r);
    default:
        return fail(r, "it holds something else than tensors and their containers, or is damaged");
    }
}

const PickleValue *pickle_read(Pickle *pickle, const void *data, size_t bytes, size_t *used,
                               Err *err)
{
    Reader r = {.pickle = pickle, .data = data, .bytes = bytes, .err = err, .stack_room = 64};
    r.stack = mem_alloc(r.stack_room * sizeof(PickleValue *));
    const PickleValue *value = NULL;
    int rc = 0;
    while (rc == 0 && !value) {
        const unsigned char *instruction = take(&r, 1);
        if (!instruction) {
            rc = -1;
        } else if (*instruction == '.') { /* STOP */
            value = pop(&r);
            rc = value ? 0 : -1;
        } else {
            rc = run(&r, *instruction);
        }
    }
    if (used) {
        *used = r.at;
    }
    free(r.stack);
    free(r.memo);
    return value;
}
