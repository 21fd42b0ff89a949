#!/usr/bin/python3
"""Values of batch norm, the stem, losses, dropout and augmentation as PyTorch and Pillow compute them.

Writes ops_norm.safetensors, ops_loss.safetensors and ops_augment.safetensors beside this script.
Made with torch 1.13.1 (in float64, on operands that float32 holds exactly) and Pillow 9.4. Tensors
lie in memory as kernels/ops.h has them: groups first, channels last.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import tensor_file
from philox import philox_words

HERE = os.path.dirname(os.path.abspath(__file__))
RNG_DROPOUT = 4
NO_GRADIENT = 255


def save(name, tensors):
    """Bytes come last: the other types keep their alignment."""
    ordered = sorted(tensors.items(), key=lambda item: item[1].dtype == np.uint8)
    tensor_file.write(os.path.join(HERE, name), dict(ordered))


def rounded(*shape):
    """Random operands that float32 holds exactly."""
    return torch.randn(*shape).double()


def f32(tensor):
    return tensor.detach().to(torch.float32).numpy()


def last(tensor):
    """Channels first to channels last, where there are positions."""
    return tensor.movedim(1, -1) if tensor.dim() > 2 else tensor


def batchnorm(name, groups, shape, residual, relu):
    """PyTorch's module run on one group after the other, then once in evaluation mode."""
    channels = shape[1]
    module = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(channels).double()
    with torch.no_grad():
        module.weight.copy_((1 + 0.3 * rounded(channels)).float())
        module.bias.copy_(rounded(channels))
        module.running_mean.copy_(rounded(channels))
        module.running_var.copy_((rounded(channels).abs() + 0.5).float())
    out = {"gamma": f32(module.weight), "beta": f32(module.bias),
           "running_mean": f32(module.running_mean), "running_var": f32(module.running_var)}
    parts = {key: [] for key in ("x", "residual", "y", "dy", "dx", "dresidual", "mean", "var")}
    for _ in range(groups):
        x = (2 * rounded(*shape) + rounded(1, channels, *[1] * (len(shape) - 2))).float().double()
        x.requires_grad_()
        skip = rounded(*shape).requires_grad_()
        y = module(x) + (skip if residual else 0)
        y = F.relu(y) if relu else y
        dy = rounded(*shape)
        y.backward(dy)
        dims = [d for d in range(len(shape)) if d != 1]
        for key, tensor in (("x", x), ("residual", skip), ("y", y), ("dy", dy), ("dx", x.grad)):
            parts[key].append(last(tensor))
        parts["dresidual"].append(last(skip.grad if residual else torch.zeros(shape)))
        parts["mean"].append(x.mean(dims))
        parts["var"].append(x.var(dims, unbiased=False))
    for key, tensors in parts.items():
        out[key] = f32(torch.stack(tensors))
    out["dgamma"], out["dbeta"] = f32(module.weight.grad), f32(module.bias.grad)
    out["running_mean_after"] = f32(module.running_mean)
    out["running_var_after"] = f32(module.running_var)
    module.eval()
    evaluated = last(module(torch.cat(parts["x"]).movedim(-1, 1)))
    if residual:
        evaluated = evaluated + torch.cat(parts["residual"])
    out["y_eval"] = f32(F.relu(evaluated) if relu else evaluated)
    return {f"{name}.{key}": value for key, value in out.items()}


def stem():
    """Inputs on a coarse grid make ties; a low beta makes windows that the ReLU empties."""
    groups, n, c, h, w = 2, 2, 5, 13, 12
    module = torch.nn.BatchNorm2d(c).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, -0.75, 0.5, 1.5, 1.0]))
        module.bias.copy_(torch.tensor([-1.5, 0.25, -0.5, 0.0, -9.0]))
    out = {"gamma": f32(module.weight), "beta": f32(module.bias)}
    parts = {key: [] for key in ("x", "y", "dy", "dx", "argmax")}
    for _ in range(groups):
        x = ((2 * rounded(n, c, h, w)).round() / 2).requires_grad_()
        y, place = F.max_pool2d(F.relu(module(x)), 3, 2, 1, return_indices=True)
        dy = rounded(*y.shape)
        y.backward(dy)
        row = place // w - (2 * torch.arange(y.shape[2]).view(-1, 1) - 1)
        column = place % w - (2 * torch.arange(y.shape[3]).view(1, -1) - 1)
        position = torch.where(y > 0, 3 * row + column, torch.tensor(NO_GRADIENT))
        for key, tensor in (("x", x), ("y", y), ("dy", dy), ("dx", x.grad), ("argmax", position)):
            parts[key].append(last(tensor))
    for key, tensors in parts.items():
        stacked = torch.stack(tensors)
        out[key] = stacked.numpy().astype(np.uint8) if key == "argmax" else f32(stacked)
    out["dgamma"], out["dbeta"] = f32(module.weight.grad), f32(module.bias.grad)
    out["running_mean_after"] = f32(module.running_mean)
    out["running_var_after"] = f32(module.running_var)
    module.eval()
    evaluated = F.relu(module(torch.cat(parts["x"]).movedim(-1, 1)))
    out["y_eval"] = f32(last(F.max_pool2d(evaluated, 3, 2, 1)))
    return {f"stem.{key}": value for key, value in out.items()}


def cross_entropy():
    logits = (3 * rounded(24, 51)).float().double().requires_grad_()
    labels = torch.randint(0, 51, (24,))
    labels[::3] = logits[::3].argmax(1)
    loss = F.cross_entropy(logits, labels)
    (0.7 * loss).backward()
    correct = (logits.argmax(1) == labels).sum()
    return {"cross_entropy.logits": f32(logits), "cross_entropy.labels": labels.numpy().astype("i4"),
            "cross_entropy.loss": f32(loss.view(1)), "cross_entropy.dlogits": f32(logits.grad),
            "cross_entropy.correct": correct.view(1).numpy().astype("i4")}


def entropy():
    """Rows 0 and 1 are one-hot (others masked out, others 0), row 2 is uniform."""
    logits = (3 * rounded(10, 47)).float().double()
    logits[0], logits[1], logits[2] = 0, 0, 0.5
    logits[0, 7], logits[1, 11] = 18, 900
    logits[3] *= 4
    logits.requires_grad_()
    p, ln_p = F.softmax(logits, 1), F.log_softmax(logits, 1)
    mask = (p >= 1e-6).double().detach()
    loss = -(mask * p * ln_p).sum(1).mean()
    (0.1 * loss).backward()
    return {"entropy.logits": f32(logits), "entropy.loss": f32(loss.view(1)),
            "entropy.dlogits": f32(logits.grad)}


def dropout():
    """Element i is kept where word i of the counter's sequence is at least p 2^32."""
    seed, step, layer, first, count = 0x123456789ABCDEF0, 5 << 32 | 77, 3, 8, 1503
    words = philox_words(seed, first + count, RNG_DROPOUT << 24 | layer, step & 0xFFFFFFFF,
                         step >> 32)[first:].astype(np.uint64)
    out = {}
    for p in (0.5, 0.05, 0.9):
        p = np.float32(p)
        threshold = int(round(float(p) * 2 ** 32))
        out[f"dropout.kept_{p:.2f}"] = (words >= threshold).astype(np.uint8)
    return out


def picture(key, width, height):
    """Random pixels that a test can make again: the bytes of a Philox sequence."""
    words = philox_words(key, (width * height * 3 + 3) // 4, 0, 0, 0)
    pixels = np.frombuffer(words.astype("<u4").tobytes(), np.uint8)[:width * height * 3]
    return pixels.reshape(height, width, 3)


def augment(name, resize, crop):
    """Samples and a checksum of each picture in 8 bits, before normalisation."""
    sizes = [(1, 1), (2, 3), (1, 300), (300, 1), (55, 48), (100, 100), (256, 256), (256, 90),
             (90, 256), (500, 300), (300, 500), (257, 255), (96, 96), (97, 31), (3, 411), (211, 96)]
    turns = [None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270]
    items, samples, checksums = [], [], []
    random = np.random.RandomState(3)
    for i, (width, height) in enumerate(sizes):
        top, left = random.randint(0, resize - crop + 1, 2)
        flip, k = i % 2, i // 2 % 4
        im = Image.fromarray(picture(i, width, height)).resize((resize, resize), Image.BILINEAR)
        im = im.crop((left, top, left + crop, top + crop))
        im = im.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else im
        im = im.transpose(turns[k]) if k else im
        pixels = np.asarray(im).reshape(-1)
        weights = np.arange(1, pixels.size + 1, dtype=np.uint64) * np.uint64(2654435761)
        items.append((width, height, top, left, flip, k))
        samples.append(pixels[::997])
        checksums.append(int((pixels * (weights & np.uint64(0xFFFFFFFF))).sum()) & 0x7FFFFFFF)
    return {f"{name}.items": np.array(items, np.int32), f"{name}.samples": np.stack(samples),
            f"{name}.checksums": np.array(checksums, np.int32)}


if __name__ == "__main__":
    torch.manual_seed(2)
    save("ops_norm.safetensors", {**batchnorm("plain", 2, (3, 7, 5, 4), False, False),
                                  **batchnorm("relu", 4, (2, 17, 3, 5), False, True),
                                  **batchnorm("residual", 4, (3, 16, 4, 3), True, True),
                                  **batchnorm("vector", 2, (8, 100), False, True), **stem()})
    save("ops_loss.safetensors", {**cross_entropy(), **entropy(), **dropout()})
    save("ops_augment.safetensors", {**augment("paper", 256, 224), **augment("small", 96, 80)})
