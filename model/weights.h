/* The network's tensors in weight files: what a checkpoint holds, and pretrained trunks. */
#ifndef RODEO_MODEL_WEIGHTS_H
#define RODEO_MODEL_WEIGHTS_H

#include "model/net.h"
#include "model/safetensors.h"
#include "model/snapshot.h"

#define WEIGHTS_MOMENTUM "momentum." /* in front of a tensor's name: its momentum */

/* All of a network's state in host memory, ready to be written: weights, running statistics and
 * batch counters under their names, and momentum under "momentum." + name; shapes and element order
 * as PyTorch has them. */
typedef struct {
    SafeTensor *tensor;
    int count;
    char **names; /* owned */
    void **data;  /* owned */
} WeightList;

WeightList weights_collect(const Net *net);

/* The same of a snapshot. Touches nothing on the device: any thread may call it. */
WeightList weights_collect_snapshot(const NetSnapshot *snapshot);

void weights_free(WeightList *list);

/* Sets all of a network's state from a file that holds exactly it. What is missing, superfluous or
 * of another shape is an error that names the first few tensors; the network is then unchanged.
 * momentum false: momentum in the file is not needed and not read. */
int weights_restore(Net *net, const SafeFile *file, bool momentum, Err *err);

/* The same from a list of named tensors. */
int weights_restore_list(Net *net, const TensorList *file, bool momentum, Err *err);

/* Starts both trunks from the weights of one torchvision ResNet ("conv1.weight", ...; "fc.*" is
 * left out): a safetensors file, or a state dict that torch.save wrote (pth.h), bare or under the
 * key "state_dict" or "model". Every trunk tensor must be there, and none that the trunk does not
 * have; only batch counters may be missing. On an error the network is unchanged. */
int weights_load_pretrained(Net *net, const char *path, Err *err);

/* Channels of the first stage in the ResNets that torchvision has ImageNet weights of. */
#define WEIGHTS_TORCHVISION_WIDTH 64

/* The file with torchvision's ImageNet weights of ResNet-`depth` in the folder where PyTorch keeps
 * what it has downloaded ($TORCH_HOME, else $XDG_CACHE_HOME/torch, else ~/.cache/torch): a new
 * string. NULL and err, which says how to get it or do without, if there is none. */
char *weights_find_pretrained(int depth, Err *err);

#endif
