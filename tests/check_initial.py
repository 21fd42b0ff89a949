"""Initial values of a full-size network against PyTorch's.

Usage: check_initial.py BUILD_FOLDER. Each tensor that is drawn at random is compared with its distribution
(mean, standard deviation, Kolmogorov-Smirnov distance of the sample to it) and with a sample that PyTorch
draws: torchvision's ResNet-18 for the trunks, the original program's initialisation for the heads
(Kolmogorov-Smirnov distance of the two samples). Constant tensors must be equal. Bounds are such that a
right one is exceeded once in a million draws.
"""
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "reference"))

import model
import torch
from safetensors.torch import load_file

BUILD = pathlib.Path(sys.argv[1])
KOLMOGOROV = 2.69  # sqrt(n) D exceeds it with probability 1e-6
SIGMAS = 4.9       # a standard normal does


def normal_cdf(values, mean, std):
    return 0.5 * (1 + np.vectorize(math.erf)((values - mean) / (std * math.sqrt(2))))


def distance_to(values, cdf):
    """Kolmogorov-Smirnov distance of a sample to a distribution, times sqrt(n)."""
    ordered = np.sort(values)
    steps = np.arange(len(values) + 1) / len(values)
    below = cdf(ordered)
    return math.sqrt(len(values)) * max((steps[1:] - below).max(), (below - steps[:-1]).max())


def distance_between(a, b):
    """The same of two samples; sqrt(n) becomes sqrt(n m/(n + m))."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    apart = np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)
    return math.sqrt(len(a) * len(b) / (len(a) + len(b))) * np.abs(apart).max()


def distribution(name, shape):
    """("constant", value), ("normal", mean, std) or ("uniform", bound), written down from torchvision's
    resnet.py and the original program, not from PyTorch's tensors."""
    kind = name.rsplit(".", 1)[1]
    positions = math.prod(shape[2:])
    if kind in ("running_mean", "num_batches_tracked"):
        return "constant", 0
    if kind == "running_var":
        return "constant", 1
    if name.startswith(("rgb.", "depth.")):
        if len(shape) == 4:
            return "normal", 0, math.sqrt(2 / (shape[0] * positions))
        return "constant", float(kind == "weight")
    if len(shape) == 4:
        return "uniform", math.sqrt(6 / ((shape[0] + shape[1]) * positions))
    layer = name.rsplit(".", 1)[0]
    if layer.endswith((".fc1.0", ".fc2")):
        return "normal", 0, 0.01
    if kind == "weight":
        return "normal", 1, 0.01
    return "constant", 0


def problems_of(name, found, torchs):
    """What is wrong with one tensor, as texts."""
    form, *numbers = distribution(name, found.shape)
    values, others = found.reshape(-1).astype(float), torchs.reshape(-1).astype(float)
    if form == "constant":
        return [] if (values == numbers[0]).all() and (others == numbers[0]).all() else ["not constant"]
    n = len(values)
    if form == "normal":
        mean, std = numbers
        cdf = lambda x: normal_cdf(x, mean, std)
        std_error = std / math.sqrt(2 * n)
    else:
        bound, = numbers
        mean, std = 0, bound / math.sqrt(3)
        cdf = lambda x: ((x + bound) / (2 * bound)).clip(0, 1)
        std_error = std * math.sqrt(0.2 / n)
        if np.abs(values).max() > bound * (1 + 1e-6):
            return [f"{np.abs(values).max()} is beyond {bound}"]
    checks = {"mean, in standard errors": (abs(values.mean() - mean) / (std / math.sqrt(n)), SIGMAS),
              "deviation, in standard errors": (abs(values.std() - std) / std_error, SIGMAS),
              "distance to the distribution": (distance_to(values, cdf), KOLMOGOROV),
              "PyTorch's distance to it": (distance_to(others, cdf), KOLMOGOROV),
              "distance to PyTorch's sample": (distance_between(values, others), KOLMOGOROV)}
    # Few values say nothing about the width.
    if n < 16:
        del checks["deviation, in standard errors"]
    return [f"{what} {value:.2f}, allowed {bound}" for what, (value, bound) in checks.items()
            if not value <= bound]


def main():
    torch.manual_seed(5)
    with tempfile.TemporaryDirectory(prefix="rodeo-initial-") as folder:
        data, plan = folder + "/data", folder + "/plan"
        for command in (["demo_data", "--out", data, "--classes", "9", "--per_class", "4"],
                        ["train", "--data_root", data, "--dump_plan", plan, "--steps", "0", "--pretrained", "none",
                         "--batch_size", "2", "--seed", "11", "--device", "cpu"]):
            subprocess.run([BUILD / command[0], *command[1:]], check=True, capture_output=True)
        found = load_file(plan + "/initial/checkpoint.safetensors")
    net = model.Net({"arch": "resnet18", "arch_width": 64, "classes": 9, "crop_size": 224, "seed": "0",
                     "dropout_p": 0, "rotation_dropout_p": 0})
    net.initialise_heads()
    failures = 0
    state = net.state()
    for name, tensor in state.items():
        for problem in problems_of(name, found[name].numpy(), tensor.detach().numpy()):
            failures += 1
            print(f"{name}: {problem}")
    momentum = [name for name, tensor in found.items() if name.startswith("momentum.") and tensor.any()]
    pairs = torch.equal(found["rgb.conv1.weight"], found["depth.conv1.weight"])
    print(f"{len(state)} tensors compared, {failures} problems")
    sys.exit(bool(failures or momentum or pairs or len(state) < 250))


main()
