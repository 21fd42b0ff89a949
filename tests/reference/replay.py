"""Repeats the steps that `train --dump_plan FOLDER` wrote down, in PyTorch, and compares.

Reads FOLDER/plan.jsonl, FOLDER/initial, FOLDER/final and the pictures that the plan names; nothing else
of Rodeo. Pictures go through PIL and torchvision's transforms, the network is torch modules on
torchvision's ResNet, the optimizers are torch.optim.SGD; dropout takes the plan's masks.

Fails if one of these is exceeded (relative; norms where tensors are compared):
  loss              1e-4 at the first step, 1e-3 at any step
  gradient's norm   1e-2 at the first step: a single ReLU whose input rounding takes across zero moves
                    the gradients of a narrow network by 1e-3
  parameter         1e-3 of what the steps changed in it, tensor by tensor, and all of a module together
  running value     1e-4
Batch counters must be equal. Left out are tensors that do not move but for rounding: the biases in
front of a batch norm have a gradient of zero.

A network may magnify rounding from step to step until no two programs in float32 can meet these bounds:
through ReLUs that rounding switches, and through batch norms over features that hardly differ from picture
to picture, as those of random trunks. --yardstick shows whether that is so: it runs PyTorch a second time,
in float64, or in float32 with its tensors in the layout channels_last, which rounds in another order and
takes no longer. Where the two lie further apart than a bound, Rodeo may lie up to TIMES as far from PyTorch
as PyTorch does from itself.

Usage: .venv/bin/python tests/reference/replay.py FOLDER [--steps N] [--yardstick float64|channels_last]
"""
import argparse
import json
import os
import sys
import time

import model
import torch
from safetensors.torch import load_file

BOUNDS = {"loss, first step": 1e-4, "loss, later steps": 1e-3, "gradient norm, first step": 1e-2,
          "parameter, after all steps": 1e-3, "parameters of a module": 1e-3,
          "running value, after all": 1e-4, "batch counter": 0}
TIMES = 4  # how far beyond PyTorch's own rounding is still taken for rounding
LOSSES = ("cls", "ent", "rot_source", "rot_target")
# Below this share of the largest gradient a norm is rounding: a bias in front of a batch norm.
ROUNDING = 1e-5


def relative(found, expected):
    return abs(found - expected) / max(abs(expected), 1e-12)


class Comparison:
    """The worst deviation of every kind between two runs."""

    def __init__(self):
        self.worst = {}

    def add(self, kind, name, deviation):
        if not deviation <= self.worst.get(kind, (-1, ""))[0]:
            self.worst[kind] = (deviation, name)

    def of(self, kind):
        return self.worst.get(kind, (0, ""))[0]


def read_plan(folder):
    with open(os.path.join(folder, "plan.jsonl"), encoding="utf-8") as file:
        settings, *steps = [json.loads(line) for line in file]
    if settings.get("format") != "rodeo-plan-1":
        sys.exit(f"{folder}: plan.jsonl is not a plan of a known format")
    return settings, steps


def load(folder, name):
    return load_file(os.path.join(folder, name, "checkpoint.safetensors"))


def gradient_norms(net):
    return {name: model.norm(parameter.grad) for name, parameter in net.parameters().items()
            if parameter.grad is not None}


def compare_losses(comparison, number, found, expected):
    for name in LOSSES:
        comparison.add("loss, first step" if number == 1 else "loss, later steps",
                       f"{name} of step {number}", relative(found[name], expected[name]))


def compare_gradients(comparison, found, expected):
    largest = max(expected.values())
    for name, norm in expected.items():
        if norm > ROUNDING * largest:
            comparison.add("gradient norm, first step", name, relative(found[name], norm))


def compare_states(comparison, found, expected, initial, parameters):
    """{name: tensor} after the last step. Returns how many parameters were compared."""
    compared, together = 0, {module: [0.0, 0.0] for module in model.MODULES}
    for name, tensor in expected.items():
        here, there = model.as_array(tensor), model.as_array(found[name])
        if name.endswith("num_batches_tracked"):
            comparison.add("batch counter", name, abs(int(here) - int(there)))
        elif name in parameters:
            change = model.norm(here - model.as_array(initial[name]))
            scale = model.norm(initial[name]) or len(here) ** 0.5
            if change >= 1e-8 * scale:
                deviation = model.norm(here - there)
                comparison.add("parameter, after all steps", name, deviation / change)
                sums = together[name.split(".")[0]]
                sums[0], sums[1], compared = sums[0] + deviation**2, sums[1] + change**2, compared + 1
        else:
            comparison.add("running value, after all", name,
                           model.norm(here - there) / max(model.norm(here), 1e-12))
    for module, (deviation, change) in together.items():
        if change > 0:
            comparison.add("parameters of a module", module, (deviation / change) ** 0.5)
    return compared


class Torch:
    """PyTorch's run of a plan: "float32", "float64" or "channels_last"."""

    def __init__(self, settings, initial, kind):
        self.settings = settings
        self.dtype = torch.float64 if kind == "float64" else torch.float32
        self.net = model.Net(settings)
        self.net.load(initial)
        self.net.to(self.dtype)
        if kind == "channels_last":
            for module in self.net.modules:
                module.to(memory_format=torch.channels_last)
        self.net.train()
        self.optimizers = self.net.optimizers(settings)
        model.set_momentum(self.net, self.optimizers, initial)

    def step(self, step):
        return model.train_step(self.net, self.optimizers, self.settings, step, self.dtype)


def replay(folder, limit, yardstick):
    """Compares Rodeo's steps with PyTorch's, and those with PyTorch's other ones if there is a yardstick.
    Returns both comparisons and PyTorch's run."""
    settings, steps = read_plan(folder)
    initial = load(folder, "initial")
    single = Torch(settings, initial, "float32")
    other = Torch(settings, initial, yardstick) if yardstick else None
    rodeo, rounding = Comparison(), Comparison()
    for step in steps[:limit]:
        start, number = time.monotonic(), step["step"]
        losses = single.step(step)
        compare_losses(rodeo, number, step["losses"], losses)
        if number == 1:
            compare_gradients(rodeo, step["gradient_norms"], gradient_norms(single.net))
        line = ", ".join(f"{name} {losses[name]:.6f} ({relative(step['losses'][name], losses[name]):.0e})"
                         for name in LOSSES)
        if other:
            others = other.step(step)
            compare_losses(rounding, number, losses, others)
            if number == 1:
                compare_gradients(rounding, gradient_norms(single.net), gradient_norms(other.net))
            line += f"; {yardstick} " + ", ".join(f"{relative(losses[name], others[name]):.0e}"
                                                  for name in LOSSES)
        print(f"step {number}/{len(steps)}: {line}; {time.monotonic() - start:.1f} s", flush=True)
    if limit is None or limit >= len(steps):
        parameters = set(single.net.parameters())
        compared = compare_states(rodeo, load(folder, "final"), single.net.state(), initial, parameters)
        print(f"{compared} of {len(parameters)} parameter tensors moved and were compared")
        if other:
            compare_states(rounding, single.net.state(), other.net.state(), initial, parameters)
    return rodeo, rounding, single


def report(rodeo, rounding, yardstick):
    """Prints the worst of every kind; returns how many are too far."""
    failures = 0
    for kind, (deviation, name) in rodeo.worst.items():
        allowed = max(BOUNDS[kind], TIMES * rounding.of(kind))
        failures += not deviation <= allowed
        line = f"{kind:27} {deviation:.1e}"
        if yardstick:
            line += f"; PyTorch to {yardstick} {rounding.of(kind):.1e}"
        print(f"{line}; allowed {allowed:.1e}{'' if deviation <= allowed else '  TOO FAR'} ({name})")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what --dump_plan wrote")
    parser.add_argument("--steps", type=int, help="replay the first STEPS steps only, and compare "
                        "losses and gradients alone (default: all)")
    parser.add_argument("--yardstick", nargs="?", const="float64", choices=("float64", "channels_last"),
                        help="also run PyTorch in another way (float64 if none is named), and allow what "
                        "PyTorch's own rounding makes of the plan (default: no)")
    parser.add_argument("--checkpoint", metavar="FILE", help="also write PyTorch's state after the "
                        "steps, as the original program's checkpoint.pth (default: no)")
    parser.add_argument("--epoch", type=int, default=1, help="the completed epoch that --checkpoint "
                        "states (default: 1)")
    arguments = parser.parse_args()
    rodeo, rounding, single = replay(arguments.folder, arguments.steps, arguments.yardstick)
    failures = report(rodeo, rounding, arguments.yardstick)
    if arguments.checkpoint:
        model.save_checkpoint(arguments.checkpoint, arguments.epoch, single.net, single.optimizers)
    if failures:
        sys.exit(f"{failures} kinds of values are further apart than allowed")
    print("agrees")


main()
