"""Time of one training step of the full experiment as people write it in PyTorch.

ResNet-18 trunks at 224 x 224, four passes a step (source, target, rotated source, rotated target),
each with its own batch-norm statistics, three backward passes, SGD over all parameters. The pictures
are random and on the device already, so this is the network's time alone: the number to hold against
Rodeo's step at the same batch. Run with a Python that has PyTorch and torchvision.

On the CPU it computes in float32. On a GPU --mode is one of
  fp32     eager, float32 without TF32
  tf32     eager, float32 with TF32 in convolutions and matrix products
  amp      eager, automatic mixed precision in float16 with a dynamic loss scale, fused SGD
  graph    the same, the whole step captured in a CUDA graph
  compile  the same, networks through torch.compile, the whole step captured in a CUDA graph
cuDNN may choose its algorithms by timing them. Steps on a GPU are timed with CUDA events.
Prints one line: PyTorch, mode, format, batch, median milliseconds a step, memory, first step.
"""
import argparse
import contextlib
import statistics
import time

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18

STARTED = time.perf_counter()
CLASSES = 47
WEIGHT_ENT, WEIGHT_ROT = 0.1, 1.0
MODES = ("fp32", "tf32", "amp", "graph", "compile")


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


def entropy_of_fixed_shape(logits):
    """The same without indexing by a mask, whose size the host would have to know."""
    p = functional.softmax(logits, 1)
    return -torch.where(p >= 1e-6, p * p.clamp_min(1e-6).log(), 0.0).sum() / len(logits)


class NoScaler:
    """Stands where the loss scale would be in float32."""

    def scale(self, loss):
        return loss

    def step(self, optimizer):
        optimizer.step()

    def update(self):
        pass


def make_scaler(half):
    if not half:
        return NoScaler()
    return torch.amp.GradScaler("cuda") if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler()


class Step:
    """Networks, optimizers and one batch a group; calling it runs one training step."""

    def __init__(self, batch, memory_format, device, mode):
        self.half = mode in ("amp", "graph", "compile")
        self.entropy = entropy_of_fixed_shape if mode in ("graph", "compile") else entropy
        self.device = device
        self.rgb, self.depth, self.main, self.rotation = (
            module.to(device=device, memory_format=memory_format)
            for module in (Trunk(), Trunk(), main_head(), RotationHead()))
        modules = (self.rgb, self.depth, self.main, self.rotation)
        extra = {"fused": True} if self.half else {}
        self.optimizers = [torch.optim.SGD(module.parameters(), 1e-4, 0.9, weight_decay=0.05, **extra)
                           for module in modules]
        if mode == "compile":
            self.rgb, self.depth, self.main, self.rotation = map(torch.compile, modules)
        self.scaler = make_scaler(self.half)
        self.groups = [[torch.randn(batch, 3, 224, 224, device=device)
                        .contiguous(memory_format=memory_format)
                        for _ in range(2)] for _ in range(4)]
        self.classes = torch.randint(CLASSES, (batch,), device=device)
        self.turns = [torch.randint(4, (batch,), device=device) for _ in range(2)]

    def precision(self):
        return torch.autocast("cuda", torch.float16) if self.half else contextlib.nullcontext()

    def trunks(self, group):
        outputs = [trunk(x) for trunk, x in zip((self.rgb, self.depth), group)]
        return [torch.cat(parts, 1) for parts in zip(*outputs)]

    def __call__(self):
        source, target, *rotated = self.groups
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with self.precision():
            loss = functional.cross_entropy(self.main(self.trunks(source)[1]), self.classes)
            loss = loss + WEIGHT_ENT * self.entropy(self.main(self.trunks(target)[1]))
        self.scaler.scale(loss).backward()
        for group, turns in zip(rotated, self.turns):
            with self.precision():
                loss = functional.cross_entropy(self.rotation(self.trunks(group)[0]), turns)
            self.scaler.scale(WEIGHT_ROT * loss).backward()
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()


def capture(step):
    """The step as a CUDA graph, after enough eager steps for every choice to be made."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def times_on_cpu(step, steps):
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return times


def times_on_gpu(step, steps):
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in zip(marks, marks[1:])]


def prepare_gpu(mode):
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = mode != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = mode != "fp32"


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(default: cpu)")
    parser.add_argument("--mode", choices=MODES, default="fp32",
                        help="on a GPU; the CPU knows fp32 (default: fp32)")
    parser.add_argument("--batch", type=int, default=8,
                        help="pairs in each of the four groups (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--steps", type=int, default=5,
                        help="measured steps, after those to warm up (default: 5)")
    parser.add_argument("--memory-format", choices=["contiguous", "channels_last"],
                        default="contiguous", help="(default: contiguous)")
    arguments = parser.parse_args()
    if arguments.device == "cpu" and arguments.mode != "fp32":
        parser.error("--mode: the CPU knows fp32 only; give --device cuda")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this PyTorch finds no GPU")
    return arguments


def main():
    arguments = options()
    on_gpu = arguments.device == "cuda"
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    if on_gpu:
        prepare_gpu(arguments.mode)
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    step = Step(arguments.batch, layout[arguments.memory_format], arguments.device, arguments.mode)
    step()
    if on_gpu:
        torch.cuda.synchronize()
    first = time.perf_counter() - STARTED
    run = capture(step) if arguments.mode in ("graph", "compile") else step
    if on_gpu:
        times_on_gpu(run, 3)
    times = (times_on_gpu if on_gpu else times_on_cpu)(run, arguments.steps)
    where = torch.cuda.get_device_name() if on_gpu else f"threads {arguments.threads}"
    memory = f", {torch.cuda.max_memory_reserved() / 2**20:.0f} MiB on the device" if on_gpu else ""
    ms = statistics.median(times)
    print(f"pytorch {torch.__version__} {arguments.mode} {arguments.memory_format} "
          f"batch {arguments.batch}, {where}: {ms:.2f} ms a step "
          f"(median of {arguments.steps}), {8000 * arguments.batch / ms:.1f} pictures/s{memory}, "
          f"first step {first:.1f} s after the imports")


main()
