#include "kernels/cuda/conv_plans.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "base/path.h"
#include "kernels/cuda/conv_choice.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line of the file: a convolution, and what it runs with. */
typedef struct {
    ConvPass pass;
    char precision[8];
    ConvShape shape;
    ConvChoice choice;
} Kept;

struct CudaConvPlans {
    ConvPlan **plan; /* each allocated on its own: callers hold on to it */
    int count;
    Kept *kept;
    int kept_count;
    bool changed; /* since the file was read or written */
    char *folder; /* NULL: nothing is kept */
    char *path;
};

static const char *const pass_names[] = {"fprop", "dgrad", "wgrad"};

/* ---- the file ----------------------------------------------------------------------------------
 */

static void keep(CudaConvPlans *plans, const Kept *kept)
{
    plans->kept = mem_resize(plans->kept, (size_t)(plans->kept_count + 1) * sizeof *plans->kept);
    plans->kept[plans->kept_count++] = *kept;
}

/* Takes the number behind `label`, if that is what *line goes on with. */
static bool take_number(const char **line, const char *label, int *value)
{
    size_t length = strlen(label);
    char *end;
    if (strncmp(*line, label, length) != 0) {
        return false;
    }
    errno = 0;
    long number = strtol(*line + length, &end, 10);
    if (errno != 0 || end == *line + length || number < 0 || number > INT_MAX) {
        return false;
    }
    *value = (int)number;
    *line = end;
    return true;
}

/* Takes the word and the blank that *line begins with. */
static bool take_word(const char **line, char *word, size_t size)
{
    size_t length = strcspn(*line, " \n");
    if (length == 0 || length >= size || (*line)[length] != ' ') {
        return false;
    }
    snprintf(word, size, "%.*s", (int)length, *line);
    *line += length + 1;
    return true;
}

static bool parse_line(const char *line, Kept *kept)
{
    char pass[8];
    ConvShape *s = &kept->shape;
    int math;
    if (!take_word(&line, pass, sizeof pass) ||
        !take_word(&line, kept->precision, sizeof kept->precision)) {
        return false;
    }
    struct {
        const char *label;
        int *value;
    } const fields[] = {
        {"N=", &s->N},
        {" H=", &s->H},
        {" W=", &s->W},
        {" C=", &s->C},
        {" K=", &s->K},
        {" R=", &s->R},
        {" stride=", &s->stride},
        {" pad=", &s->pad},
        {": algorithm ", &kept->choice.algorithm},
        {" math ", &math},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!take_number(&line, fields[i].label, fields[i].value)) {
            return false;
        }
    }
    kept->choice.math = (cudnnMathType_t)math;
    for (int i = 0; i < 3; i++) {
        if (strcmp(pass, pass_names[i]) == 0) {
            kept->pass = (ConvPass)i;
            return *line == '\n' || *line == '\0';
        }
    }
    return false;
}

static void read_file(CudaConvPlans *plans)
{
    char *text = path_is_file(plans->path) ? path_read(plans->path, NULL, NULL) : NULL;
    for (char *line = text; line != NULL && *line != '\0';) {
        Kept kept = {0};
        char *next = strchr(line, '\n');
        if (line[0] != '#' && parse_line(line, &kept)) {
            keep(plans, &kept);
        }
        line = next ? next + 1 : NULL;
    }
    free(text);
}

void cuda_conv_plans_save(CudaConvPlans *plans)
{
    if (!plans->changed || !plans->path) {
        return;
    }
    plans->changed = false;
    char *text =
        mem_format("# Convolution algorithms that were the fastest on this GPU; written by "
                   "Rodeo, which measures again what is missing here.\n");
    for (int i = 0; i < plans->kept_count; i++) {
        const Kept *k = &plans->kept[i];
        const ConvShape *s = &k->shape;
        char *longer =
            mem_format("%s%s %s N=%d H=%d W=%d C=%d K=%d R=%d stride=%d pad=%d: algorithm "
                       "%d math %d\n",
                       text, pass_names[k->pass], k->precision, s->N, s->H, s->W, s->C, s->K, s->R,
                       s->stride, s->pad, k->choice.algorithm, (int)k->choice.math);
        free(text);
        text = longer;
    }
    if (path_make_folders(plans->folder, NULL) == 0) {
        atomic_file_replace(plans->path, text, strlen(text), NULL);
    }
    free(text);
}

/* "NVIDIA H100 80GB" becomes "NVIDIA-H100-80GB". */
static char *file_path(const char *folder, const char *gpu)
{
    char name[160];
    snprintf(name, sizeof name, "rodeo-%s-cudnn-%zu.txt", gpu, cudnnGetVersion());
    for (char *c = name; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && *c != '.') {
            *c = '-';
        }
    }
    return path_join(folder, name);
}

CudaConvPlans *cuda_conv_plans_open(const char *cache_dir, const char *gpu)
{
    CudaConvPlans *plans = mem_zeroed(1, sizeof *plans);
    if (cache_dir) {
        plans->folder = mem_string(cache_dir);
        plans->path = file_path(cache_dir, gpu);
        read_file(plans);
    }
    return plans;
}

void cuda_conv_plans_close(CudaConvPlans *plans)
{
    cuda_conv_plans_save(plans);
    for (int i = 0; i < plans->count; i++) {
        ConvPlan *plan = plans->plan[i];
        CUDNN_CHECK(cudnnDestroyTensorDescriptor(plan->x));
        CUDNN_CHECK(cudnnDestroyTensorDescriptor(plan->y));
        CUDNN_CHECK(cudnnDestroyFilterDescriptor(plan->w));
        CUDNN_CHECK(cudnnDestroyConvolutionDescriptor(plan->conv));
        free(plan);
    }
    free(plans->plan);
    free(plans->kept);
    free(plans->folder);
    free(plans->path);
    free(plans);
}

/* ---- plans -------------------------------------------------------------------------------------
 */

static bool same_shape(const ConvShape *a, const ConvShape *b)
{
    return a->N == b->N && a->H == b->H && a->W == b->W && a->C == b->C && a->K == b->K &&
           a->R == b->R && a->stride == b->stride && a->pad == b->pad;
}

static ConvPlan *describe(const CudaBackend *cuda, ConvPass pass, const ConvShape *s)
{
    static const cudnnDataType_t types[] = {[CUDA_F32] = CUDNN_DATA_FLOAT,
                                            [CUDA_F16] = CUDNN_DATA_HALF,
                                            [CUDA_BF16] = CUDNN_DATA_BFLOAT16};
    cudnnDataType_t type = types[cuda->type];
    int P = conv_out(s->H, s->R, s->stride, s->pad);
    int Q = conv_out(s->W, s->R, s->stride, s->pad);
    ConvPlan *plan = mem_zeroed(1, sizeof *plan);
    plan->pass = pass;
    plan->shape = *s;
    CUDNN_CHECK(cudnnCreateTensorDescriptor(&plan->x));
    CUDNN_CHECK(cudnnCreateTensorDescriptor(&plan->y));
    CUDNN_CHECK(cudnnCreateFilterDescriptor(&plan->w));
    CUDNN_CHECK(cudnnCreateConvolutionDescriptor(&plan->conv));
    CUDNN_CHECK(
        cudnnSetTensor4dDescriptor(plan->x, CUDNN_TENSOR_NHWC, type, s->N, s->C, s->H, s->W));
    CUDNN_CHECK(cudnnSetTensor4dDescriptor(plan->y, CUDNN_TENSOR_NHWC, type, s->N, s->K, P, Q));
    CUDNN_CHECK(
        cudnnSetFilter4dDescriptor(plan->w, type, CUDNN_TENSOR_NHWC, s->K, s->C, s->R, s->R));
    CUDNN_CHECK(cudnnSetConvolution2dDescriptor(plan->conv, s->pad, s->pad, s->stride, s->stride, 1,
                                                1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    return plan;
}

static const Kept *find_kept(const CudaBackend *cuda, const ConvPlan *plan)
{
    const CudaConvPlans *plans = cuda->plans;
    for (int i = 0; i < plans->kept_count; i++) {
        const Kept *k = &plans->kept[i];
        if (k->pass == plan->pass && same_shape(&k->shape, &plan->shape) &&
            strcmp(k->precision, cuda->base.precision) == 0) {
            return k;
        }
    }
    return NULL;
}

static void choose(CudaBackend *cuda, ConvPlan *plan, const ConvOperands *operands)
{
    const Kept *known = find_kept(cuda, plan);
    if (known && conv_choice_apply(cuda, plan, &known->choice)) {
        return;
    }
    if (cuda->capturing) {
        fatal("a convolution of a new shape was met while a step was being recorded");
    }
    Kept kept = {.pass = plan->pass, .shape = plan->shape};
    snprintf(kept.precision, sizeof kept.precision, "%s", cuda->base.precision);
    conv_choice_measure(cuda, plan, operands, &kept.choice);
    keep(cuda->plans, &kept);
    cuda->plans->changed = true;
}

const ConvPlan *cuda_conv_plan(CudaBackend *cuda, ConvPass pass, const ConvShape *shape,
                               const ConvOperands *operands)
{
    CudaConvPlans *plans = cuda->plans;
    for (int i = 0; i < plans->count; i++) {
        if (plans->plan[i]->pass == pass && same_shape(&plans->plan[i]->shape, shape)) {
            return plans->plan[i];
        }
    }
    ConvPlan *plan = describe(cuda, pass, shape);
    choose(cuda, plan, operands);
    plans->plan = mem_resize(plans->plan, (size_t)(plans->count + 1) * sizeof(ConvPlan *));
    plans->plan[plans->count++] = plan;
    return plan;
}
