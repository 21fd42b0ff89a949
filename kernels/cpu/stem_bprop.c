/* The stem's batch norm + ReLU + max pooling on the CPU, backward.
 *
 * With g the gradient of the normalised tensor: g is zero except where a window took its maximum.
 *   dbeta = sum g,   dgamma = sum g xhat,   dx = gamma invstd (g - dbeta/n - xhat dgamma/n)
 * The sums run over the outputs and look up x where argmax points. The pass for dx runs over the
 * inputs: an input lies in one, two or four windows, so g is gathered and never stored. */
#include "kernels/cpu/batchnorm.h"

#include <omp.h>
#include <string.h>

enum {
    SUM_BAND = 8,   /* output rows of a task of the sums */
    INPUT_BAND = 16 /* input rows of a task of dx; even */
};

/* One group's tensors: x, dx [N,H,W,C], the others [N,P,Q,C]; dy_add may be NULL. */
typedef struct {
    int N, H, W, C, P, Q;
    const float *x, *dy, *dy_add;
    const uint8_t *argmax;
    const float *mean;
    float *dx;
} StemGroup;

typedef struct {
    double *band_sums;            /* [N][bands][2][C]: sum g, sum g (x - mean) */
    float *thread_rows;           /* [threads][2][Q C]: sums in float32, or rows of dy + dy_add */
    uint8_t *no_window;           /* [C]: an argmax that no position has */
    size_t row_stride;            /* elements */
    float *scale, *shift, *slope; /* [C]: dx = scale g - shift - slope (x - mean) */
    double *dgamma, *dbeta;       /* [C]: summed over the groups */
} StemScratch;

static StemScratch stem_scratch(CpuBackend *cpu, const StemGroup *t)
{
    size_t C = (size_t)t->C;
    StemScratch b;
    b.row_stride = scratch_piece((size_t)t->Q * C * sizeof(float)) / sizeof(float);
    size_t bands = (size_t)((t->P + SUM_BAND - 1) / SUM_BAND);
    size_t sums = (size_t)t->N * bands * 2 * C * sizeof(double);
    size_t rows = (size_t)cpu->threads * 2 * b.row_stride * sizeof(float);
    size_t floats = C * sizeof(float);
    size_t doubles = C * sizeof(double);
    char *next = cpu_scratch(cpu, scratch_piece(sums) + scratch_piece(rows) + scratch_piece(C) +
                                      3 * scratch_piece(floats) + 2 * scratch_piece(doubles));
    b.band_sums = scratch_take(&next, sums);
    b.thread_rows = scratch_take(&next, rows);
    b.no_window = scratch_take(&next, C);
    b.scale = scratch_take(&next, floats);
    b.shift = scratch_take(&next, floats);
    b.slope = scratch_take(&next, floats);
    b.dgamma = scratch_take(&next, doubles);
    b.dbeta = scratch_take(&next, doubles);
    memset(b.no_window, STEM_NO_GRADIENT, C);
    return b;
}

static float *thread_rows(const StemScratch *b)
{
    return b->thread_rows + (size_t)omp_get_thread_num() * 2 * b->row_stride;
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* Adds one window's terms to sum_g and sum_gx. x points to the window's centre, which always lies
 * in the picture: where argmax says that there is no gradient, it is read and not used. */
static inline __attribute__((always_inline)) void
add_window(int C, int row, const float *restrict x, const float *restrict dy,
           const float *restrict dy_add, bool has_add, const uint8_t *restrict argmax,
           const float *restrict mean, float *restrict sum_g, float *restrict sum_gx)
{
#pragma omp simd
    for (int c = 0; c < C; c++) {
        int k = argmax[c];
        bool passed = k < 9;
        int r = (k * 11) >> 5; /* k/3 for k < 9 */
        int offset = (r - 1) * row + (k - 3 * r - 1) * C;
        float value = x[c + (passed ? offset : 0)];
        float g = has_add ? dy[c] + dy_add[c] : dy[c];
        g = passed ? g : 0;
        sum_g[c] += g;
        sum_gx[c] += g * (value - mean[c]);
    }
}

static void sum_band(const StemGroup *t, int n, int first, int end, float *sum_g, double *total)
{
    int C = t->C;
    int row = t->W * C;
    float *sum_gx = sum_g + C;
    memset(total, 0, (size_t)C * 2 * sizeof(double));
    for (int p = first; p < end; p++) {
        memset(sum_g, 0, (size_t)C * 2 * sizeof(float));
        for (int q = 0; q < t->Q; q++) {
            int64_t out = (((int64_t)n * t->P + p) * t->Q + q) * C;
            const float *centre = t->x + (((int64_t)n * t->H + 2 * p) * t->W + 2 * q) * C;
            if (t->dy_add != NULL) {
                add_window(C, row, centre, t->dy + out, t->dy_add + out, true, t->argmax + out,
                           t->mean, sum_g, sum_gx);
            } else {
                add_window(C, row, centre, t->dy + out, NULL, false, t->argmax + out, t->mean,
                           sum_g, sum_gx);
            }
        }
        for (int c = 0; c < 2 * C; c++) {
            total[c] += sum_g[c];
        }
    }
}

static void sum_group(const CpuBackend *cpu, const StemGroup *t, const StemScratch *b)
{
    int bands = (t->P + SUM_BAND - 1) / SUM_BAND;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int task = 0; task < t->N * bands; task++) {
        int first = task % bands * SUM_BAND;
        int end = first + SUM_BAND < t->P ? first + SUM_BAND : t->P;
        sum_band(t, task / bands, first, end, thread_rows(b),
                 b->band_sums + (int64_t)task * 2 * t->C);
    }
    for (int task = 1; task < t->N * bands; task++) {
        for (int c = 0; c < 2 * t->C; c++) {
            b->band_sums[c] += b->band_sums[(int64_t)task * 2 * t->C + c];
        }
    }
}

/* Adds the group to dgamma and dbeta, and derives what dx needs. */
static void finish_sums(const StemGroup *t, const float *gamma, const float *invstd,
                        const StemScratch *b)
{
    double n = (double)t->N * t->H * t->W;
    const double *sum_g = b->band_sums;
    const double *sum_gx = sum_g + t->C;
    for (int c = 0; c < t->C; c++) {
        double scale = (double)gamma[c] * invstd[c];
        double dgamma = sum_gx[c] * invstd[c];
        b->dbeta[c] += sum_g[c];
        b->dgamma[c] += dgamma;
        b->scale[c] = (float)scale;
        b->shift[c] = (float)(scale * sum_g[c] / n);
        b->slope[c] = (float)(scale * invstd[c] * dgamma / n);
    }
}

/* ---- dx -------------------------------------------------------------------------------------- */

/* A window that an input may lie in: its gradient and argmax, and the input's position in it. */
typedef struct {
    const float *g;
    const uint8_t *argmax;
    int position;
} Window;

/* A row of windows that covers the input row, or none (g NULL); r is the input row's place in it.
 */
typedef struct {
    const float *g;
    const uint8_t *argmax;
    int r;
} WindowRow;

/* dx of one pixel that lies in the given 1, 2 or 4 windows. */
static inline __attribute__((always_inline)) void
write_pixel(int C, const Window *window, int windows, const float *restrict x, const StemScratch *b,
            const float *restrict mean, float *restrict dx)
{
    const float *restrict scale = b->scale;
    const float *restrict shift = b->shift;
    const float *restrict slope = b->slope;
#pragma omp simd
    for (int c = 0; c < C; c++) {
        float g = 0;
        for (int i = 0; i < windows; i++) {
            g += window[i].argmax[c] == window[i].position ? window[i].g[c] : 0;
        }
        dx[c] = (scale[c] * g - shift[c]) - slope[c] * (x[c] - mean[c]);
    }
}

/* The windows of column w in the given rows. A window beyond the edge keeps its place in the list
 * with an argmax that never fits. */
static int find_windows(const StemGroup *t, const StemScratch *b, const WindowRow *rows, int count,
                        int w, Window window[4])
{
    int found = 0;
    int columns = w % 2 == 0 ? 1 : 2;
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < columns; j++) {
            int q = (w + 1) / 2 - j;
            int position = 3 * rows[i].r + (w - (2 * q - 1));
            bool inside = q < t->Q;
            int64_t at = inside ? (int64_t)q * t->C : 0;
            window[found++] =
                (Window){rows[i].g + at, inside ? rows[i].argmax + at : b->no_window, position};
        }
    }
    return found;
}

static void write_row(const StemGroup *t, const StemScratch *b, const WindowRow *rows, int count,
                      const float *x, float *dx)
{
    for (int w = 0; w < t->W; w++) {
        Window window[4];
        int64_t at = (int64_t)w * t->C;
        switch (find_windows(t, b, rows, count, w, window)) {
        case 1:
            write_pixel(t->C, window, 1, x + at, b, t->mean, dx + at);
            break;
        case 2:
            write_pixel(t->C, window, 2, x + at, b, t->mean, dx + at);
            break;
        default:
            write_pixel(t->C, window, 4, x + at, b, t->mean, dx + at);
            break;
        }
    }
}

/* The gradient of output row p of picture n: dy itself, or dy + dy_add in one of two buffers. */
static const float *gradient_row(const StemGroup *t, const StemScratch *b, int n, int p, bool fresh)
{
    int64_t at = ((int64_t)n * t->P + p) * t->Q * t->C;
    if (t->dy_add == NULL) {
        return t->dy + at;
    }
    float *sum = thread_rows(b) + (size_t)(p % 2) * b->row_stride;
    if (fresh) {
        const float *dy = t->dy + at;
        const float *dy_add = t->dy_add + at;
        for (int i = 0; i < t->Q * t->C; i++) {
            sum[i] = dy[i] + dy_add[i];
        }
    }
    return sum;
}

/* Input rows [first, end) of picture n; first is even. */
static void write_band(const StemGroup *t, const StemScratch *b, int n, int first, int end)
{
    int ready = first / 2; /* the next output row whose gradient has to be fetched */
    for (int h = first; h < end; h++) {
        WindowRow rows[2];
        int count = 0;
        int upper = h / 2;
        int lower = (h + 1) / 2;
        for (int p = upper; p <= lower && p < t->P; p++) {
            int64_t at = ((int64_t)n * t->P + p) * t->Q * t->C;
            rows[count++] =
                (WindowRow){gradient_row(t, b, n, p, p >= ready), t->argmax + at, h - (2 * p - 1)};
            ready = p >= ready ? p + 1 : ready;
        }
        int64_t in = ((int64_t)n * t->H + h) * t->W * t->C;
        write_row(t, b, rows, count, t->x + in, t->dx + in);
    }
}

static void write_group(const CpuBackend *cpu, const StemGroup *t, const StemScratch *b)
{
    int bands = (t->H + INPUT_BAND - 1) / INPUT_BAND;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int task = 0; task < t->N * bands; task++) {
        int first = task % bands * INPUT_BAND;
        int end = first + INPUT_BAND < t->H ? first + INPUT_BAND : t->H;
        write_band(t, b, task / bands, first, end);
    }
}

void cpu_stem_bprop(Backend *be, const StemShape *s, const void *x, const uint8_t *argmax,
                    const void *dy, const void *dy_add, const float *gamma, const float *batch_mean,
                    const float *batch_invstd, bool accumulate, void *dx, float *dgamma,
                    float *dbeta)
{
    CpuBackend *cpu = cpu_backend(be);
    StemGroup t = {.N = s->N,
                   .H = s->H,
                   .W = s->W,
                   .C = s->C,
                   .P = conv_out(s->H, 3, 2, 1),
                   .Q = conv_out(s->W, 3, 2, 1)};
    StemScratch b = stem_scratch(cpu, &t);
    for (int c = 0; c < s->C; c++) {
        b.dgamma[c] = accumulate ? dgamma[c] : 0;
        b.dbeta[c] = accumulate ? dbeta[c] : 0;
    }
    for (int g = 0; g < s->groups; g++) {
        int64_t in = (int64_t)g * t.N * t.H * t.W * t.C;
        int64_t out = (int64_t)g * t.N * t.P * t.Q * t.C;
        t.x = (const float *)x + in;
        t.dx = (float *)dx + in;
        t.dy = (const float *)dy + out;
        t.dy_add = dy_add != NULL ? (const float *)dy_add + out : NULL;
        t.argmax = argmax + out;
        t.mean = batch_mean + (int64_t)g * s->C;
        sum_group(cpu, &t, &b);
        finish_sums(&t, gamma, batch_invstd + (int64_t)g * s->C, &b);
        write_group(cpu, &t, &b);
    }
    for (int c = 0; c < s->C; c++) {
        dgamma[c] = (float)b.dgamma[c];
        dbeta[c] = (float)b.dbeta[c];
    }
}
