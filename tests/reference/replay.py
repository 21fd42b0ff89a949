"""Repeats the steps that `train --dump_plan FOLDER` wrote down, in PyTorch, and compares.

Reads FOLDER/plan.jsonl, FOLDER/initial, FOLDER/final and the pictures that the plan names; nothing else
of Rodeo. Pictures go through PIL and torchvision's transforms, the network is torch modules on
torchvision's ResNet, the optimizers are torch.optim.SGD; dropout takes the plan's masks.

Fails if one of these is exceeded (relative; norms where tensors are compared):
  loss              1e-4 at the first step, 1e-3 at any step
  gradient's norm   1e-3 at the first step
  parameter         1e-3 of what the steps changed in it
  running value     1e-4
Batch counters must be equal. Left out are tensors that do not move but for rounding: the biases in
front of a batch norm have a gradient of zero.

Usage: .venv/bin/python tests/reference/replay.py FOLDER [--steps N] [--double]
"""
import argparse
import json
import os
import sys
import time

import model
import torch
from safetensors.torch import load_file

FIRST_LOSS, LOSS, GRADIENT, PARAMETER, RUNNING = 1e-4, 1e-3, 1e-3, 1e-3, 1e-4
LOSSES = ("cls", "ent", "rot_source", "rot_target")
# Below this share of the largest gradient a norm is rounding: a bias in front of a batch norm.
ROUNDING = 1e-5


def relative(found, expected):
    return abs(found - expected) / max(abs(expected), 1e-12)


class Comparison:
    """Keeps the worst of every kind, and fails where one is above its bound."""

    def __init__(self):
        self.worst, self.failures = {}, 0

    def add(self, kind, name, deviation, bound):
        if deviation > bound or deviation != deviation:
            self.failures += 1
            if self.failures <= 20:
                print(f"  TOO FAR: {kind} {name}: {deviation:.2e}, bound {bound:.0e}")
        if deviation >= self.worst.get(kind, (0, "", 0))[0]:
            self.worst[kind] = (deviation, name, bound)

    def report(self):
        for kind, (deviation, name, bound) in self.worst.items():
            print(f"{kind:28} {deviation:.2e}  (bound {bound:.0e}; worst: {name})")


def read_plan(folder):
    with open(os.path.join(folder, "plan.jsonl"), encoding="utf-8") as file:
        settings, *steps = [json.loads(line) for line in file]
    if settings.get("format") != "rodeo-plan-1":
        sys.exit(f"{folder}: plan.jsonl is not a plan of a known format")
    return settings, steps


def load(folder, name):
    return load_file(os.path.join(folder, name, "checkpoint.safetensors"))


def compare_gradients(comparison, net, expected):
    norms = {name: model.norm(parameter.grad) for name, parameter in net.parameters().items()
             if parameter.grad is not None}
    largest = max(norms.values())
    for name, found in norms.items():
        if found > ROUNDING * largest:
            comparison.add("gradient norm, first step", name, relative(expected[name], found), GRADIENT)


def compare_state(comparison, net, initial, final):
    """The tensors after the last step."""
    parameters, untouched = set(net.parameters()), 0
    for name, tensor in net.state().items():
        here, there = model.as_array(tensor), model.as_array(final[name])
        if name.endswith("num_batches_tracked"):
            comparison.add("batch counter", name, abs(int(here) - int(there)), 0)
        elif name in parameters:
            change = model.norm(here - model.as_array(initial[name]))
            scale = model.norm(initial[name]) or len(here) ** 0.5
            if change < 1e-8 * scale:
                untouched += 1
                continue
            comparison.add("parameter, after all steps", name, model.norm(here - there) / change,
                           PARAMETER)
        else:
            comparison.add("running value, after all", name,
                           model.norm(here - there) / max(model.norm(here), 1e-12), RUNNING)
    print(f"{len(parameters) - untouched} parameter tensors compared; {untouched} only moved by "
          "rounding")


def replay(folder, limit, dtype):
    """Returns the comparison, the network and its optimizers."""
    settings, steps = read_plan(folder)
    whole = limit is None or limit >= len(steps)
    initial = load(folder, "initial")
    net = model.Net(settings)
    net.load(initial)
    net.to(dtype)
    net.train()
    optimizers = net.optimizers(settings)
    model.set_momentum(net, optimizers, initial)
    comparison = Comparison()
    for step in steps[:limit]:
        start = time.monotonic()
        losses = model.train_step(net, optimizers, settings, step, dtype)
        deviations = []
        for name in LOSSES:
            deviation = relative(step["losses"][name], losses[name])
            deviations.append(f"{name} {losses[name]:.6f} ({deviation:.1e})")
            first = step["step"] == 1
            comparison.add("loss, first step" if first else "loss, later steps",
                           f"{name} of step {step['step']}", deviation, FIRST_LOSS if first else LOSS)
        print(f"step {step['step']}/{len(steps)}: {', '.join(deviations)}; "
              f"{time.monotonic() - start:.1f} s", flush=True)
        if step["step"] == 1:
            compare_gradients(comparison, net, step["gradient_norms"])
    if whole:
        compare_state(comparison, net, initial, load(folder, "final"))
    return comparison, net, optimizers


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what --dump_plan wrote")
    parser.add_argument("--steps", type=int, help="replay the first STEPS steps only, and compare "
                        "losses and gradients alone (default: all)")
    parser.add_argument("--double", action="store_true", help="compute in float64 (default: float32)")
    parser.add_argument("--checkpoint", metavar="FILE", help="also write PyTorch's state after the "
                        "steps, as the original program's checkpoint.pth (default: no)")
    parser.add_argument("--epoch", type=int, default=1, help="the completed epoch that --checkpoint "
                        "states (default: 1)")
    arguments = parser.parse_args()
    dtype = torch.float64 if arguments.double else torch.float32
    comparison, net, optimizers = replay(arguments.folder, arguments.steps, dtype)
    comparison.report()
    if arguments.checkpoint:
        model.save_checkpoint(arguments.checkpoint, arguments.epoch, net, optimizers)
    if comparison.failures:
        sys.exit(f"{comparison.failures} values are further apart than allowed")
    print("agrees")


main()
