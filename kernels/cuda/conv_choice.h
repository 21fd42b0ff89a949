/* Which of cuDNN's engines may run a convolution, and which of them is the fastest. */
#ifndef RODEO_KERNELS_CUDA_CONV_CHOICE_H
#define RODEO_KERNELS_CUDA_CONV_CHOICE_H

#include "kernels/cuda/conv_graph.h"

#define CONV_CANDIDATES 16 /* engines that are timed for one convolution, at most */

/* What an engine must keep to. */
typedef struct {
    CudaType type;
    bool tf32;        /* float32 factors may be rounded to TF32 */
    size_t workspace; /* bytes there are */
} ConvRules;

/* Bytes of workspace that are worth having on a GPU with so much memory. */
size_t conv_workspace_bytes(CudaType type, size_t memory);

/* Whether an engine gives the same bits in every run, sums in float32, rounds factors as the
 * precision says and not more, and starts without a compiler. */
bool conv_engine_is_allowed(const ConvRules *rules, const ConvNotes *notes);

/* The most promising engines that keep to the rules and that cuDNN can run, ready to run; returns
 * how many. The caller closes the plans. */
int conv_candidates(const ConvGraph *graph, const ConvRules *rules,
                    ConvEngine engines[CONV_CANDIDATES], ConvPlan *plans[CONV_CANDIDATES]);

/* Times the candidates on the operands, in the stream of the current lane; what the pass writes is
 * overwritten. Returns the fastest, which *engine then describes, or NULL if none could run. */
ConvPlan *conv_choice_measure(CudaBackend *cuda, const ConvGraph *graph,
                              const ConvOperands *operands, ConvEngine *engine);

#endif
