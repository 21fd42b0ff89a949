"""Golden values of the whole network and three training steps, computed by PyTorch in float64.

Run with a Python that has PyTorch, torchvision and NumPy:  make_net.py  writes beside itself
net_plain.safetensors, net_dropout.safetensors, net_source_only.safetensors and net_resnet50.safetensors;
make_net.py --float32 writes nothing and prints how far the same computation in float32 comes out, for
choosing tolerances.

The network
  Two trunks "rgb" and "depth": ResNet-18 with channels 8, 16, 32, 64, input 136 x 136 (so the map is
  5 x 5 and the rotation head's flattening to C,H,W order, 100 x 2 x 2, matters). Main head "main":
  128 -> 1000 -> 5 classes. Rotation head "rotation": 128 -> conv 1x1 100 -> conv 3x3 stride 2 100 ->
  400 -> 100 -> 4. B = 8 pairs in each of the groups source, target, source_rot, target_rot, in this
  order. Tensors have PyTorch's shapes and order (convolution weights K,C,R,S) and the names
  "rgb.layer1.0.conv1.weight", "depth....", "main.fc1.0.weight", "rotation.conv_1x1.0.weight".
  The case resnet50 has ResNet-50 trunks with 4, 8, 16, 32 channels in the bottlenecks and four times
  as many behind them, so both heads read 256 channels.

Nothing random is stored: both sides compute it with Philox4x32-10. "Word i of (key; c1, c2, c3)" is
word i mod 4 of the block with counter (i / 4, c1, c2, c3) under key; u = word / 2^32. Values are
computed in double and rounded to float32 once.
  parameter, element i   word i of (1234; FNV-1a-32 of the full name, 0, 0), r = 2 u - 1
                           convolution and linear weights  r sqrt(3 / fan_in)   (fan_in = C R S or C)
                           batch norm's weight             1 + 0.2 r, for bn3 a quarter of it
                           all biases                      0.1 r
                         running_mean starts at 0, running_var at 1
  pictures [4B,136,136,3]  4 x 4 squares of one colour each: element i of [4B,4,4,3] is 4 u - 2 from
                         word i of (99; modality, step, 0) and fills 34 x 34 pixels; modality 0 is
                         rgb, 1 depth; step counts from 0
  labels of slot s       word s of (77; step, 0, 0), s = 0 .. 4B-1 over the groups: class label = word
                         mod 5 (used for source), rotation label = word mod 4 (used for the last two)
  dropout                op_dropout's mask, key = (42, step): layer 0 = main, elements counted over the
                         merged [2B,1000] (source, target); layer 1 = rotation, over the merged
                         [2B,100] (source_rot, target_rot)

The step: lr 0.0001 (heads 0.0002), momentum 0.9, weight decay 0.05, alpha 0.1, lambda 1; passes, losses,
running statistics and SGD in the order of the experiment (source, target, source_rot, target_rot).
  plain        dropout 0 in both heads
  dropout      dropout 0.5 in both heads
  source_only  alpha = lambda = 0, dropout 0: only the source group runs, and the rotation head, which
               never has a gradient, is not touched by the optimizer
  resnet50     as plain, with the trunks described above, and one step only

What a file holds (float64 unless said; three steps, in resnet50 one; 0 where a case has no such value)
  losses [3,4]                  L_cls, L_ent, L_rs, L_rt of each step, without alpha and lambda
  correct [3,4] int32           right predictions: source, 0, source_rot, target_rot
  logits_main [2B,5]            of step 0: source, target   (source_only: [B,5])
  logits_rotation [2B,4]        of step 0: source_rot, target_rot   (not in source_only)
  eval_logits_main [B,5]        after the steps, evaluation mode, on step 0's source pictures
  eval_logits_rotation [B,4]    likewise of the rotation head on step 0's source_rot pictures
                                (not in source_only)
  sketch.<parameter> [4]        of step 0's summed gradient (without weight decay) the L2 norm and the
                                dot product with signs, then the same two of what the steps changed
                                (value after them minus initial value)
  buffer.<running_mean or running_var> [C]   after the steps; in resnet50 [2], norm and dot product
The sign of element i is + where word i of (5; FNV-1a-32 of the full name, 0, 0) is even, else -.
The gradients of main.fc1.0.bias, rotation.conv_1x1.0.bias, rotation.conv_3x3.0.bias and
rotation.fc1.0.bias are zero but for rounding, because a batch norm follows.

Pictures of plain noise, 4 pairs a group or a learning rate of 0.01 would make a bad reference: the
batch norm over the few rows of a head then magnifies rounding so much that float32 and float64 part
by several per cent within three steps. So do sixteen bottlenecks whose branches weigh as much as their
shortcuts, in the first backward pass already; hence bn3's quarter.
"""
import argparse
import math
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck

import tensor_file
from philox import philox_words

SIZE = 136
CLASSES = 5
SQUARES = 4
B = 8
STEPS = 3
LR, HEAD_LR_MULT, MOMENTUM, WEIGHT_DECAY = 0.0001, 2.0, 0.9, 0.05
ENTROPY_FLOOR = 1e-6
RNG_DROPOUT = 4
SOURCE, TARGET, SOURCE_ROT, TARGET_ROT = (slice(g * B, (g + 1) * B) for g in range(4))

CASES = {
    "plain": {"alpha": 0.1, "lambda": 1.0, "dropout": 0.0},
    "dropout": {"alpha": 0.1, "lambda": 1.0, "dropout": 0.5},
    "source_only": {"alpha": 0.0, "lambda": 0.0, "dropout": 0.0},
    "resnet50": {"alpha": 0.1, "lambda": 1.0, "dropout": 0.0, "depth": 50, "steps": 1},
}


class Trunk(nn.Module):
    """A small ResNet, named as torchvision names it. Gives the map and its mean."""

    def __init__(self, depth):
        super().__init__()
        kind, width, blocks = {18: (BasicBlock, 8, (2, 2, 2, 2)), 50: (Bottleneck, 4, (3, 4, 6, 3))}[depth]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for index, count in enumerate(blocks):
            planes, stride = width << index, 2 if index else 1
            out = planes * kind.expansion
            downsample = None
            if stride != 1 or channels != out:
                downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False),
                                           nn.BatchNorm2d(out))
            stage = [kind(channels, planes, stride, downsample)]
            stage += [kind(out, planes) for _ in range(count - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*stage))
            channels = out
        self.channels = channels

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x, x.mean((2, 3))


class Dropout:
    """op_dropout of one head: the mask of the rows from `first_row` on of the merged batch."""

    def __init__(self, p, layer):
        self.p, self.layer, self.step = p, layer, 0

    def __call__(self, x, first_row):
        if self.p == 0:
            return x
        rows, columns = x.shape
        words = philox_words(42, (first_row + rows) * columns, RNG_DROPOUT << 24 | self.layer,
                             self.step & 0xFFFFFFFF, self.step >> 32)
        kept = words[first_row * columns:] >= round(self.p * 2**32)
        return x * torch.from_numpy(kept.reshape(rows, columns)).to(x.dtype) / (1 - self.p)


class MainHead(nn.Module):
    def __init__(self, features, p):
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(features, 1000), nn.BatchNorm1d(1000), nn.ReLU())
        self.fc2 = nn.Linear(1000, CLASSES)
        self.dropout = Dropout(p, 0)

    def forward(self, pooled, first_row):
        hidden = self.fc1(pooled)
        return self.fc2(self.dropout(hidden, first_row) if self.training else hidden)


class RotationHead(nn.Module):
    def __init__(self, features, p):
        super().__init__()
        self.conv_1x1 = nn.Sequential(nn.Conv2d(features, 100, 1), nn.BatchNorm2d(100), nn.ReLU())
        self.conv_3x3 = nn.Sequential(nn.Conv2d(100, 100, 3, 2), nn.BatchNorm2d(100), nn.ReLU())
        self.fc1 = nn.Sequential(nn.Linear(400, 100), nn.BatchNorm1d(100), nn.ReLU())
        self.fc2 = nn.Linear(100, 4)
        self.dropout = Dropout(p, 1)

    def forward(self, maps, first_row):
        hidden = self.fc1(self.conv_3x3(self.conv_1x1(maps)).flatten(1))
        return self.fc2(self.dropout(hidden, first_row) if self.training else hidden)


class Net(nn.Module):
    """Both trunks and both heads; state-dict names are the golden file's names."""

    def __init__(self, p, depth):
        super().__init__()
        self.rgb, self.depth = Trunk(depth), Trunk(depth)
        features = self.rgb.channels + self.depth.channels
        self.main, self.rotation = MainHead(features, p), RotationHead(features, p)

    def classify(self, pictures, group, first_row=0):
        """Logits of the main head."""
        pooled = [trunk(x[group])[1] for trunk, x in zip((self.rgb, self.depth), pictures)]
        return self.main(torch.cat(pooled, 1), first_row)

    def tell_rotation(self, pictures, group, first_row=0):
        """Logits of the rotation head."""
        maps = [trunk(x[group])[0] for trunk, x in zip((self.rgb, self.depth), pictures)]
        return self.rotation(torch.cat(maps, 1), first_row)


def fnv1a(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def uniform(key, shape, c1, c2=0):
    """u of the docstring, float64."""
    words = philox_words(key, math.prod(shape), c1, c2, 0)
    return (words.astype(np.float64) / 2.0**32).reshape(shape)


def rounded(values, dtype):
    """Rounds to float32 once, then computes on in dtype."""
    return torch.from_numpy(values.astype(np.float32)).to(dtype)


def initialise(net, dtype):
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            r = 2 * uniform(1234, tuple(parameter.shape), fnv1a(name)) - 1
            if parameter.dim() > 1:
                values = r * math.sqrt(3 / (parameter[0].numel()))
            elif name.endswith(".bn3.weight"):
                values = 0.25 * (1 + 0.2 * r)
            elif name.endswith("weight"):
                values = 1 + 0.2 * r
            else:
                values = 0.1 * r
            parameter.copy_(rounded(values, dtype))


def pictures_of(step, dtype):
    """RGB and depth, [4B,3,H,W]."""
    pictures = []
    for modality in (0, 1):
        colours = 4 * uniform(99, (4 * B, SQUARES, SQUARES, 3), modality, step) - 2
        pixels = colours.repeat(SIZE // SQUARES, 1).repeat(SIZE // SQUARES, 2)
        pictures.append(rounded(pixels, dtype).permute(0, 3, 1, 2).contiguous())
    return pictures


def labels_of(step):
    words = philox_words(77, 4 * B, step, 0, 0).astype(np.int64)
    return torch.from_numpy(words % CLASSES), torch.from_numpy(words % 4)


def entropy(logits):
    p = functional.softmax(logits, 1)
    mask = p.detach() >= ENTROPY_FLOOR
    return -(p[mask] * p[mask].log()).sum() / len(logits)


def train_step(net, case, step, dtype):
    """Forward and backward of all passes; gradients are left summed.

    Returns losses [4], correct counts [4], and the logits of both heads over their groups.
    """
    net.main.dropout.step = net.rotation.dropout.step = step
    pictures = pictures_of(step, dtype)
    class_labels, rotation_labels = labels_of(step)
    losses, correct = [0.0] * 4, [0] * 4
    main_logits, rotation_logits = [], []

    def cross_entropy(logits, labels, index):
        loss = functional.cross_entropy(logits, labels)
        losses[index] = loss.item()
        correct[index] = int((logits.argmax(1) == labels).sum())
        return loss

    logits = net.classify(pictures, SOURCE)
    main_logits.append(logits)
    total = cross_entropy(logits, class_labels[SOURCE], 0)
    if case["alpha"] > 0:
        logits = net.classify(pictures, TARGET, B)
        main_logits.append(logits)
        loss = entropy(logits)
        losses[1] = loss.item()
        total = total + case["alpha"] * loss
    total.backward()
    if case["lambda"] > 0:
        for index, group, first_row in ((2, SOURCE_ROT, 0), (3, TARGET_ROT, B)):
            logits = net.tell_rotation(pictures, group, first_row)
            rotation_logits.append(logits)
            (case["lambda"] * cross_entropy(logits, rotation_labels[group], index)).backward()
    return losses, correct, main_logits, rotation_logits


def sketch(values, name):
    """L2 norm, and dot product with the signs that belong to the name."""
    flat = values.detach().double().numpy().reshape(-1)
    signs = 1.0 - 2.0 * (philox_words(5, flat.size, fnv1a(name), 0, 0) & 1)
    return [float(np.linalg.norm(flat)), float(flat @ signs)]


def run_case(case, dtype):
    """All tensors of one golden file, by name."""
    depth = case.get("depth", 18)
    net = Net(case["dropout"], depth).to(dtype)
    initialise(net, dtype)
    initial = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    net.train()
    trunks = [*net.rgb.parameters(), *net.depth.parameters()]
    heads = [*net.main.parameters(), *net.rotation.parameters()]
    optimizer = torch.optim.SGD([{"params": trunks}, {"params": heads, "lr": LR * HEAD_LR_MULT}],
                                LR, MOMENTUM, weight_decay=WEIGHT_DECAY)
    result, losses, correct, gradients = {}, [], [], {}
    for step in range(case.get("steps", STEPS)):
        optimizer.zero_grad(set_to_none=True)
        step_losses, step_correct, main_logits, rotation_logits = train_step(net, case, step, dtype)
        losses.append(step_losses)
        correct.append(step_correct)
        if step == 0:
            result["logits_main"] = torch.cat(main_logits)
            if rotation_logits:
                result["logits_rotation"] = torch.cat(rotation_logits)
            for name, parameter in net.named_parameters():
                untouched = parameter.grad is None
                gradients[name] = [0.0, 0.0] if untouched else sketch(parameter.grad, name)
        optimizer.step()
    result["losses"] = losses
    result["correct"] = np.array(correct, np.int32)
    net.eval()
    with torch.no_grad():
        pictures = pictures_of(0, dtype)
        result["eval_logits_main"] = net.classify(pictures, SOURCE)
        if case["lambda"] > 0:
            result["eval_logits_rotation"] = net.tell_rotation(pictures, SOURCE_ROT)
    for name, parameter in net.named_parameters():
        result[f"sketch.{name}"] = gradients[name] + sketch(parameter - initial[name], name)
    for name, buffer in net.named_buffers():
        if "running" in name:
            result[f"buffer.{name}"] = buffer if depth == 18 else sketch(buffer, name)
    return {name: as_array(values) for name, values in result.items()}


def as_array(values):
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    values = np.asarray(values)
    return values if values.dtype == np.int32 else values.astype(np.float64)


def print_deviation(name, tensors, reference):
    """The largest deviation of each kind of tensor, relative to the reference's largest value."""
    worst = {}
    for key, values in tensors.items():
        parts = {key.split(".")[0]: slice(None)}
        if key.startswith("sketch."):
            parts = {"gradient": slice(0, 2), "change": slice(2, 4)}
        for kind, part in parts.items():
            expected = reference[key][part]
            scale = np.abs(expected).max()
            if scale > 1e-9:
                deviation = np.abs(values[part] - expected).max() / scale
                worst[kind] = max(worst.get(kind, (0, "")), (deviation, key))
    for kind, (deviation, key) in worst.items():
        print(f"{name:12} {kind:22} {deviation:.1e}  {key}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--float32", action="store_true", help="print float32's deviations only")
    arguments = parser.parse_args()
    folder = os.path.dirname(os.path.abspath(__file__))
    for name, case in CASES.items():
        reference = run_case(case, torch.float64)
        if arguments.float32:
            print_deviation(name, run_case(case, torch.float32), reference)
        else:
            tensor_file.write(os.path.join(folder, f"net_{name}.safetensors"), reference)


main()
