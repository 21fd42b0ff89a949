#!/usr/bin/env python3
"""Predicts step and epoch times of the experiment on several GPUs from counted FLOPs and bytes.

Counts what one step does, operator by operator, as kernels/work.c does (`build/bench_step --profile`
prints the same totals), and turns it into time:

  convolution, matrix product   max(FLOPs / (e x peak), bytes / (b x bandwidth))
  everything else               bytes / (b x bandwidth)

and adds up; a step takes a share o of that sum, because the two trunks run beside each other. peak and
bandwidth are the vendor's numbers; e, b and o come from what was measured on one H100 (MEASURED below) and
are taken to be the same on every GPU. Not included: augmentation, losses, the host, a GPU that lowers its
clock.

  bench/predict.py            the tables of docs/performance.md
  bench/predict.py --count    FLOPs and bytes of one step, by operator
"""
import argparse
from collections import defaultdict, namedtuple

# Rodeo on one H100 SXM, cuDNN 9.14, batch 64 (512 pictures a step); milliseconds. The parts are operators
# one after the other, by build/bench_step --profile, before own convolutions for Hopper, which other GPUs
# do not run; with them and with batch norm's present blocks the step is the last of these.
MEASURED = {
    "fp16 step": 18.76,
    "fp16 convolutions": 10.73,    # without the first
    "fp16 first convolution": 1.35,  # fprop with statistics and wgrad, by own kernels
    "fp16 first by cuDNN": 4.07,
    "fp16 memory": 8.67,           # batch norm, the stem's pooling, SGD
    "tf32 step": 45.02,
    "fp32 step": 139.77,           # mostly by own kernels
    "fp16 step on Hopper": 17.96,
}
MEASURED_ON = "H100 SXM"

# Vendor's numbers: TFLOP/s with and without tensor cores, GB/s, precisions as Rodeo offers them.
Gpu = namedtuple("Gpu", "name fp16 tf32 fp32 bandwidth")
GPUS = (
    Gpu("P100 PCIe 16 GB", None, None, 9.3e12, 732e9),
    Gpu("T4", 65e12, None, 8.1e12, 320e9),
    Gpu("V100 SXM2 16 GB", 125e12, None, 15.7e12, 900e9),
    Gpu("L4", 121e12, 60e12, 30.3e12, 300e9),
    Gpu("RTX PRO 6000 (G4)", 480e12, 240e12, 120e12, 1597e9),
    Gpu("A100 SXM 40 GB", 312e12, 156e12, 19.5e12, 1555e9),
    Gpu("H100 SXM", 989e12, 494e12, 67e12, 3350e9),
)
PARAMETERS = 23711360
STEM_BY_CUDNN = {"V100 SXM2 16 GB"}  # Volta's tensor cores do not suit Rodeo's kernels
TRAIN_PAIRS, TARGET_PAIRS = 37528, 32476  # synROD's training list, ROD's test
TEST_BATCHES, CAPPED_TESTS = 100, 3       # source, source rotated, target rotated: 100 batches each

Work = namedtuple("Work", "op kind flops bytes")  # kind: product, stem or memory


class Counter:
    """The operators of one pass in the order they are called, in the given element size."""

    def __init__(self, size, picture_channels):
        self.size, self.picture_channels, self.work = size, picture_channels, []

    def add(self, op, flops, size, kind="memory"):
        self.work.append(Work(op, kind, flops, size))

    def conv(self, op, N, H, C, K, R, stride, pad):
        P = (H + 2 * pad - R) // stride + 1
        stored = self.picture_channels if C == 3 else C
        weights = K * R * R * C
        weight_size = 4 if op == "wgrad" else self.size
        self.add(f"conv_{op}", 2 * N * P * P * weights,
                 self.size * (N * H * H * stored + N * P * P * K) + weight_size * weights,
                 "stem" if C == 3 else "product")
        return P

    def norm(self, op, elements, passes, mask=False):
        self.add(f"batchnorm_{op}", 0, self.size * passes * elements + (elements // 8 if mask else 0))

    def stem(self, op, N, H, C, x_passes, y_passes, argmax):
        P = (H - 1) // 2 + 1
        y = N * P * P * C
        self.add(f"stem_{op}", 0, self.size * (x_passes * N * H * H * C + y_passes * y)
                 + (y_passes * y if argmax else 0))
        return P

    def linear(self, op, N, C, K, output_size):
        weight_size = 4 if op == "wgrad" else self.size
        self.add(f"linear_{op}", 2 * N * C * K,
                 self.size * N * C + output_size * N * K + weight_size * C * K, "product")


def trunk(count, N, training):
    """One ResNet-18 at 224 over N pictures, forward and (training) backward."""
    directions = ("fprop", "dgrad", "wgrad") if training else ("fprop",)
    count.conv("statistics" if training else "fprop", N, 224, 3, 64, 7, 2, 3)
    if training:
        count.conv("wgrad", N, 224, 3, 64, 7, 2, 3)
        count.stem("train", N, 112, 64, 1, 1, True)
        count.stem("bprop", N, 112, 64, 3, 4, True)
    else:
        count.stem("eval", N, 112, 64, 1, 1, False)
    side, channels = 56, 64
    for stage in range(4):
        for block in range(2):
            K, stride = 64 << stage, 2 if stage and not block else 1
            last = stage == 3 and block == 1
            for op in directions:
                out = count.conv(op, N, side, channels, K, 3, stride, 1)
                count.conv(op, N, out, K, K, 3, 1, 1)
                if stride == 2:
                    count.conv(op, N, side, channels, K, 1, 2, 0)
            elements = N * out * out * K
            forward = "train" if training else "eval"
            plain = 3 if training else 2
            for passes in [plain] * (2 if stride == 2 else 1):
                count.norm(forward, elements, passes)
            count.norm(forward, elements, plain + 1, training)
            if training:
                for passes in [5] * (2 if stride == 2 else 1):
                    count.norm("bprop", elements, passes)
                count.norm("bprop", elements, 6 if last else 7, True)
            side, channels = out, K
    count.add("avgpool_fprop", 0, count.size * N * 50 * 512)
    if training:
        count.add("avgpool_bprop", 0, count.size * N * 50 * 512)


def heads(count, B, training):
    """Main head on two groups, rotation head on two (evaluation: the main head on N = 2 B)."""
    N = 2 * B
    directions = ("fprop", "dgrad", "wgrad") if training else ("fprop",)
    for op in directions:
        count.linear(op, N, 1024, 1000, count.size)
        count.linear(op, N, 1000, 47, 4)
    if training:
        for op in directions:
            count.conv(op, N, 7, 1024, 100, 1, 1, 0)
            count.conv(op, N, 7, 100, 100, 3, 2, 0)
            count.linear(op, N, 900, 100, count.size)
            count.linear(op, N, 100, 4, 4)
        for elements in (N * 49 * 100, N * 9 * 100, N * 100, N * 1000):
            count.norm("train", elements, 3)
            count.norm("bprop", elements, 5)


def training_step(B, size, picture_channels):
    count = Counter(size, picture_channels)
    for _ in range(2):
        trunk(count, 4 * B, True)
    heads(count, B, True)
    for positions in (1, 49):  # two groups' features and maps, there and back
        count.add("concat", 0, count.size * 2 * 2 * B * positions * 1024)
        count.add("split", 0, count.size * 2 * 2 * B * positions * 1024)
    # dw, v and w are read, v and w written; in fp16 also a search for overflow and the copy of w.
    count.add("sgd", 0, PARAMETERS * (20 if size == 4 else 26))
    return count.work


def evaluation(pairs, size, picture_channels):
    count = Counter(size, picture_channels)
    for _ in range(2):
        trunk(count, pairs, False)
    heads(count, pairs // 2, False)
    return count.work


def milliseconds(work, rate, stem_rate, bandwidth):
    rates = {"product": rate, "stem": stem_rate}
    return 1e3 * sum(max(w.flops / rates[w.kind] if w.kind in rates else 0, w.bytes / bandwidth)
                     for w in work)


def solve(time_at, target):
    """The rate in FLOP/s at which time_at(rate), which falls with it, is the target."""
    low, high = 1e10, 1e17
    for _ in range(100):
        middle = (low * high) ** 0.5
        if time_at(middle) > target:
            low = middle
        else:
            high = middle
    return low


Shares = namedtuple("Shares", "e first_by_cudnn b o")


def measured_shares():
    """e of each precision and of the first convolution in fp16; b; o of a step in fp16. In TF32 and fp32,
    of which the whole step alone was measured, o is in e."""
    gpu = next(g for g in GPUS if g.name == MEASURED_ON)
    half = training_step(64, 2, 4)
    convolutions = [w for w in half if w.kind == "product" and w.op.startswith("conv")]
    stem = [w for w in half if w.kind == "stem"]
    moved = sum(w.bytes for w in half if w.op.startswith(("batchnorm", "stem", "sgd")))
    bandwidth = moved / MEASURED["fp16 memory"] * 1e3

    def share(work, target, peak):
        return solve(lambda r: milliseconds(work, r, r, bandwidth), target) / peak

    e = {"fp16": share(convolutions, MEASURED["fp16 convolutions"], gpu.fp16),
         "stem": share(stem, MEASURED["fp16 first convolution"], gpu.fp16)}
    single = training_step(64, 4, 4)
    for name, peak in (("tf32", gpu.tf32), ("fp32", gpu.fp32)):
        e[name] = share(single, MEASURED[f"{name} step"], peak)
    summed = milliseconds(half, e["fp16"] * gpu.fp16, e["stem"] * gpu.fp16, bandwidth)
    return Shares(e, share(stem, MEASURED["fp16 first by cuDNN"], gpu.fp16), bandwidth / gpu.bandwidth,
                  MEASURED["fp16 step"] / summed)


def predict(gpu, precision, B, shares):
    """Milliseconds a step; seconds of an epoch's steps; seconds of its tests."""
    e, o = shares.e, shares.o if precision == "fp16" else 1.0
    if precision == "fp16" and gpu.name == MEASURED_ON:
        o *= MEASURED["fp16 step on Hopper"] / MEASURED["fp16 step"]
    size = 2 if precision == "fp16" else 4
    peak = getattr(gpu, precision)
    rate = e[precision] * peak
    if precision == "tf32":  # what computes in fp32 may run as well
        rate = max(rate, e["fp32"] * gpu.fp32)
    stem_rate = rate
    if precision == "fp16":
        stem_rate = (shares.first_by_cudnn if gpu.name in STEM_BY_CUDNN else e["stem"]) * peak
    bandwidth = shares.b * gpu.bandwidth
    step = o * milliseconds(training_step(B, size, 4), rate, stem_rate, bandwidth)
    pairs = TARGET_PAIRS + CAPPED_TESTS * TEST_BATCHES * B
    tests = o * milliseconds(evaluation(pairs, size, 4), rate, stem_rate, bandwidth) / 1e3
    return step, step * (TRAIN_PAIRS // B) / 1e3, tests


def print_count(B, precision):
    size, channels = {"fp16": (2, 4), "cpu": (4, 3)}.get(precision, (4, 4))
    rows = defaultdict(lambda: [0, 0, 0])
    for w in training_step(B, size, channels):
        for name in (w.op, "all"):
            for i, amount in enumerate((1, w.flops, w.bytes)):
                rows[name][i] += amount
    print(f"{'operator':16} {'calls':>5} {'GFLOP':>9} {'GB':>9}")
    for name, (calls, flops, size) in sorted(rows.items(), key=lambda r: (r[0] == "all", r[0])):
        print(f"{name:16} {calls:5} {flops / 1e9:9.1f} {size / 1e9:9.2f}")


def print_tables():
    shares = measured_shares()
    e = shares.e
    print(f"e: fp16 {e['fp16']:.2f} (first convolution {e['stem']:.3f}, cuDNN's {shares.first_by_cudnn:.3f}), "
          f"tf32 {e['tf32']:.2f}, fp32 {e['fp32']:.2f}; b: {shares.b:.2f}; o: {shares.o:.2f}\n")
    print("| GPU | precision | batch | ms a step | training steps of an epoch | tests after it | epoch | |")
    print("|---|---|---|---|---|---|---|---|")
    for gpu in GPUS:
        for precision in ("fp16", "tf32", "fp32"):
            if getattr(gpu, precision) is None:
                continue
            for B in (32, 64):
                step, train, tests = predict(gpu, precision, B, shares)
                known = "step measured" if gpu.name == MEASURED_ON and B == 64 else "predicted"
                print(f"| {gpu.name} | {precision} | {B} | {step:.1f} | {duration(train)} | "
                      f"{duration(tests)} | {duration(train + tests)} | {known} |")


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="what one step does, by operator")
    parser.add_argument("--batch", type=int, default=64, help="pairs a group, for --count (default: 64)")
    parser.add_argument("--precision", choices=["fp16", "tf32", "fp32", "cpu"], default="fp16",
                        help="for --count; cpu: fp32 with pictures of 3 channels (default: fp16)")
    arguments = parser.parse_args()
    if arguments.count:
        print_count(arguments.batch, arguments.precision)
    else:
        print_tables()


main()
