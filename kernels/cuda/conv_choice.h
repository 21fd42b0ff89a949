/* Which of cuDNN's engines may run a convolution, and whether one of them or own kernels
 * (own_conv.h) are the fastest. */
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

/* The index that stands for own kernels; cuDNN counts its engines from 0. Their only knob is their
 * tile. */
#define CONV_OWN_ENGINE (-1)
#define CONV_OWN_TILE   0 /* the knob's type */

/* A convolution that is ready to run. */
typedef struct {
    ConvProblem problem;
    ConvEngine engine;
    ConvPlan *plan; /* cuDNN's; NULL: own kernels */
} ConvChoice;

/* Prepares an engine. False, and nothing to be closed, if it cannot run on this GPU, or within the
 * workspace there is. */
bool conv_choice_open(const CudaBackend *cuda, const ConvGraph *graph, const ConvProblem *problem,
                      const ConvEngine *engine, ConvChoice *choice);
void conv_choice_close(ConvChoice *choice);

/* As conv_plan_workspace and conv_plan_run, with the current lane's handle and stream. */
size_t conv_choice_workspace(const CudaBackend *cuda, const ConvChoice *choice);
cudnnStatus_t conv_choice_run(CudaBackend *cuda, const ConvChoice *choice,
                              const ConvOperands *operands, void *workspace);

/* Times the candidates on the operands, in the stream of the current lane; what the pass writes is
 * overwritten. Opens the fastest, or returns false if none could run. */
bool conv_choice_measure(CudaBackend *cuda, const ConvGraph *graph, const ConvProblem *problem,
                         const ConvOperands *operands, ConvChoice *fastest);

#endif
