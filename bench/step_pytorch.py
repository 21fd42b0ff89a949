"""Time of one training step of the full experiment as people write it in PyTorch.

ResNet-18 trunks at 224 x 224, four passes a step (source, target, rotated source, rotated target),
each with its own batch-norm statistics, three backward passes, SGD over all parameters, in float32 on
the CPU. The pictures are random and decoded already, so this is the network's time alone: the number
to hold against Rodeo's step at the same batch and threads. Run with a Python that has PyTorch and
torchvision. Prints one line: format, batch, threads, median milliseconds a step.
"""
import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18

CLASSES = 47
WEIGHT_ENT, WEIGHT_ROT = 0.1, 1.0


class Trunk(nn.Module):
    """torchvision's ResNet-18 without its classifier; gives the map and its mean."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*list(resnet18().children())[:-2])

    def forward(self, x):
        maps = self.body(x)
        return maps, maps.mean((2, 3))


class RotationHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1024, 100, 1), nn.BatchNorm2d(100), nn.ReLU(),
            nn.Conv2d(100, 100, 3, 2), nn.BatchNorm2d(100), nn.ReLU())
        self.linear = nn.Sequential(
            nn.Linear(900, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Dropout(0.5), nn.Linear(100, 4))

    def forward(self, maps):
        return self.linear(self.convolutions(maps).flatten(1))


def main_head():
    return nn.Sequential(nn.Linear(1024, 1000), nn.BatchNorm1d(1000), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(1000, CLASSES))


def entropy(logits):
    p = functional.softmax(logits, 1)
    p = p[p >= 1e-6]
    return -(p * p.log()).sum() / len(logits)


class Step:
    """Networks, optimizers and one batch a group; calling it runs one training step."""

    def __init__(self, batch, memory_format):
        self.rgb, self.depth = (Trunk().to(memory_format=memory_format) for _ in range(2))
        self.main, self.rotation = main_head(), RotationHead().to(memory_format=memory_format)
        modules = (self.rgb, self.depth, self.main, self.rotation)
        self.optimizers = [torch.optim.SGD(module.parameters(), 1e-4, 0.9, weight_decay=0.05)
                           for module in modules]
        self.groups = [[torch.randn(batch, 3, 224, 224).contiguous(memory_format=memory_format)
                        for _ in range(2)] for _ in range(4)]
        self.classes = torch.randint(CLASSES, (batch,))
        self.turns = [torch.randint(4, (batch,)) for _ in range(2)]

    def trunks(self, group):
        outputs = [trunk(x) for trunk, x in zip((self.rgb, self.depth), group)]
        return [torch.cat(parts, 1) for parts in zip(*outputs)]

    def __call__(self):
        source, target, *rotated = self.groups
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = functional.cross_entropy(self.main(self.trunks(source)[1]), self.classes)
        loss = loss + WEIGHT_ENT * entropy(self.main(self.trunks(target)[1]))
        loss.backward()
        for group, turns in zip(rotated, self.turns):
            loss = functional.cross_entropy(self.rotation(self.trunks(group)[0]), turns)
            (WEIGHT_ROT * loss).backward()
        for optimizer in self.optimizers:
            optimizer.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="pairs in each of the four groups")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after one to warm up")
    parser.add_argument("--memory-format", choices=["contiguous", "channels_last"],
                        default="contiguous")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    step = Step(arguments.batch, layout[arguments.memory_format])
    times = []
    for _ in range(1 + arguments.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(f"pytorch {torch.__version__} {arguments.memory_format} batch {arguments.batch} "
          f"threads {arguments.threads}: {1000 * statistics.median(times[1:]):.0f} ms a step")


main()
