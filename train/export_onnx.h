/* The whole network for inference, as an ONNX model. */
#ifndef RODEO_TRAIN_EXPORT_ONNX_H
#define RODEO_TRAIN_EXPORT_ONNX_H

#include "model/net.h"

#define EXPORT_ONNX_OPSET 13

/* Writes the network as it evaluates (running statistics, no dropout), through a temporary file.
 * Inputs: rgb and depth, float [batch, 3, crop, crop], normalised as in training, batch free.
 * Outputs: class_logits [batch, classes] and rotation_logits [batch, 4]. Nodes and weights have the
 * names of the checkpoint's tensors. */
int export_onnx(const Net *net, const char *path, Err *err);

#endif
