#!/usr/bin/python3
"""Values of convolution, linear, pooling and SGD as PyTorch computes them in float64.

Writes ops_conv.safetensors and ops_dense.safetensors beside this script. Made with torch 1.13.1.
Tensors lie in memory as kernels/ops.h has them: activations NHWC, convolution weights KRRC.
"""
import os

import torch
import torch.nn.functional as F

import tensor_file

HERE = os.path.dirname(os.path.abspath(__file__))
# name: N, H, W, C, K, R, stride, pad, bias
CONVS = {
    "stem": (1, 19, 17, 3, 16, 7, 2, 3, False),
    "block": (2, 6, 5, 16, 16, 3, 1, 1, False),
    "down": (2, 7, 6, 8, 16, 3, 2, 1, False),
    "shortcut": (2, 7, 6, 16, 8, 1, 2, 0, False),
    "head": (2, 7, 7, 8, 10, 3, 2, 0, True),
}


def save(name, tensors):
    arrays = {key: tensor.detach().contiguous().to(torch.float32).numpy()
              for key, tensor in tensors.items()}
    tensor_file.write(os.path.join(HERE, name), arrays)


def rounded(*shape):
    """Random operands that float32 holds exactly."""
    return torch.randn(*shape).double()


def convs():
    torch.manual_seed(1)
    out = {}
    for name, (n, h, w, c, k, r, stride, pad, has_bias) in CONVS.items():
        x = rounded(n, c, h, w).requires_grad_()
        weight = rounded(k, c, r, r).requires_grad_()
        bias = rounded(k).requires_grad_() if has_bias else None
        y = F.conv2d(x, weight, bias, stride, pad)
        dy = rounded(*y.shape)
        y.backward(dy)
        found = {"x": x, "w": weight, "y": y, "dy": dy, "dx": x.grad, "dw": weight.grad}
        for key, tensor in found.items():
            out[f"{name}.{key}"] = tensor.permute(0, 2, 3, 1)
        if has_bias:
            out[f"{name}.bias"], out[f"{name}.dbias"] = bias, bias.grad
    save("ops_conv.safetensors", out)


def dense():
    torch.manual_seed(2)
    x, weight, bias = (rounded(*s).requires_grad_() for s in ((5, 37), (11, 37), (11,)))
    y = F.linear(x, weight, bias)
    dy = rounded(*y.shape)
    y.backward(dy)
    out = {"linear.x": x, "linear.w": weight, "linear.bias": bias, "linear.y": y, "linear.dy": dy,
           "linear.dx": x.grad, "linear.dw": weight.grad, "linear.dbias": bias.grad}

    x = rounded(3, 10, 7, 7).requires_grad_()
    y = F.adaptive_avg_pool2d(x, 1)
    dy = rounded(*y.shape)
    y.backward(dy)
    out.update({"pool.x": x.permute(0, 2, 3, 1), "pool.y": y.flatten(1), "pool.dy": dy.flatten(1),
                "pool.dx": x.grad.permute(0, 2, 3, 1)})

    # Two groups with their own learning rates, three steps.
    weights = [rounded(64).requires_grad_(), rounded(32).requires_grad_()]
    out["sgd.w"] = torch.cat(weights)
    sgd = torch.optim.SGD([{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]]}], lr=0.03,
                          momentum=0.9, weight_decay=0.05)
    for step in range(3):
        for weight in weights:
            weight.grad = rounded(*weight.shape)
        out[f"sgd.dw{step}"] = torch.cat([weight.grad for weight in weights])
        sgd.step()
        out[f"sgd.w{step}"] = torch.cat(weights)
        out[f"sgd.v{step}"] = torch.cat([sgd.state[w]["momentum_buffer"] for w in weights])
    save("ops_dense.safetensors", out)


convs()
dense()
