/* The two-stream network of the experiment: an RGB trunk, a depth trunk, the main head on the
 * pictures as they are, the relative-rotation head on rotated ones.
 *
 * A training step runs all its groups of B pairs as one merged batch through each trunk. The groups
 * come in the experiment's order: first those of the main head (source, then target), then those of
 * the rotation head (source rotated, then target rotated). Batch norm keeps the groups apart and
 * moves its running statistics group by group in that order, so a merged step means the same as
 * four passes one after the other. Where the memory for a merged step is missing, the passes are
 * indeed run one after the other and the gradients added up. */
#ifndef RODEO_MODEL_NET_H
#define RODEO_MODEL_NET_H

#include "base/err.h"
#include "model/heads.h"
#include "model/trunk.h"

typedef struct {
    TrunkConfig trunk;
    int classes;
    float dropout_p;          /* of the main head */
    float rotation_dropout_p; /* of the rotation head; 0.5 in the experiment */
} NetConfig;

/* How a training step is put together. */
typedef struct {
    int batch;                                          /* B, pairs in a group; at least 2 */
    int main_groups;                                    /* 1 or 2 */
    int rotation_groups;                                /* 0 or 2 */
    enum { NET_AUTO, NET_MERGED, NET_SEPARATE } passes; /* auto: merged where the memory suffices */
} NetStep;

typedef struct {
    Backend *be;
    NetConfig config;
    NetStep step; /* passes: as decided, not NET_AUTO */
    Params params;
    Trunk rgb, depth;
    MainHead main;
    RotationHead rotation;
    Arena arena;
} Net;

/* Builds the network for steps of this kind, and for evaluation of up to as many pictures, with its
 * initial weights drawn from the seed. err: a crop too small for the rotation head. */
Net *net_open(Backend *be, const NetConfig *config, const NetStep *step, uint64_t seed, Err *err);
void net_close(Net *net);

/* Pictures of one modality in a training step: groups * batch; also what net_eval_* take. */
int net_samples(const Net *net);

/* Passes that a training step consists of: 1 when merged, else one a group. */
int net_passes(const Net *net);

/* Device memory that the net holds. */
size_t net_bytes(const Net *net);

/* Which groups a pass covers: main groups [main_first, main_end) and rotation groups likewise, each
 * head's counted from 0. */
typedef struct {
    int main_first, main_end, rotation_first, rotation_end;
} NetPassGroups;

NetPassGroups net_pass_groups(const Net *net, int pass);

/* Forward part of one pass of a training step over its share of x_rgb, x_depth [groups * B, crop,
 * crop, picture channels], the pictures of the whole step. The logits are in net_main_logits and
 * net_rotation_logits. dropout_key: device memory, as in op_dropout. */
void net_fprop(Net *net, int pass, const void *x_rgb, const void *x_depth,
               const uint64_t *dropout_key);

/* Logits of one group of a head after its forward pass, [B, classes], and where their gradient
 * goes before net_bprop. group counts the head's own groups from 0. */
const float *net_main_logits(const Net *net, int group);
float *net_main_dlogits(Net *net, int group);
const float *net_rotation_logits(const Net *net, int group);
float *net_rotation_dlogits(Net *net, int group);

/* Backward part of the same pass. After the last pass the gradients of all weights in use
 * (params.dw) are those of the whole step. */
void net_bprop(Net *net, int pass, const uint64_t *dropout_key);

/* Counts a training step in batch norm's batch counters; host work only. */
void net_count_step(Net *net);

/* Evaluation: logits [N, classes] for N = net_samples pictures, with running statistics and without
 * dropout. Unused slots may hold any picture: samples do not influence each other. */
const float *net_eval_main(Net *net, const void *x_rgb, const void *x_depth);
const float *net_eval_rotation(Net *net, const void *x_rgb, const void *x_depth);

#endif
