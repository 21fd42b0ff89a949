"""How busy a training epoch keeps the device, end to end: `train` on demo data with two CPU cores, beside
the time that the same step takes alone; and how long after its launch `train` begins and ends its first
step, with packed data, once before a GPU's engines are chosen and once after.

The share is steps * milliseconds a step (build/bench_step, which leaves decoding, loading and augmentation
out) / seconds of training that metrics.jsonl states; the first epoch, which warms up and in the tier device copies
the pictures to the GPU, is printed apart.

    python3 bench/epoch.py [--device cuda] [--batch 64] ...      -h explains
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{command[0]}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout + result.stderr


def launch(*command):
    """Seconds from the launch of `train --sanitycheck` until its first epoch begins and until its first step
    has ended, whose loss it prints."""
    start = time.monotonic()
    began, said = None, ""
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        for line in process.stdout:
            if line.startswith("Epoch 1 / "):
                began = time.monotonic() - start
            elif began is not None and re.fullmatch(r"[\d.]+\n", line):
                ended = time.monotonic() - start
                process.terminate()
                return began, ended
            said = line.strip() or said
    sys.exit(f"{command[0]}: its first step did not end; it said last: {said}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help="(default: build)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda)")
    parser.add_argument("--precision", default="auto", help="(default: auto)")
    parser.add_argument("--tier", default="auto", help="where the pictures are (default: auto)")
    parser.add_argument("--batch", type=int, default=64, help="pairs a group (default: 64)")
    parser.add_argument("--crop", type=int, default=224, help="side of the pictures (default: 224)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage (default: 64)")
    parser.add_argument("--epochs", type=int, default=4, help="at least 2 (default: 4)")
    parser.add_argument("--per_class", type=int, default=120,
                        help="pairs of each of the 16 classes (default: 120)")
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))  # a container may lack the first ones
    parser.add_argument("--cores", default=cores, help=f"CPU cores that both may use (default: {cores})")
    options = parser.parse_args()
    pinned = ["taskset", "-c", options.cores]
    same = ["--device", options.device, "--precision", options.precision]
    with tempfile.TemporaryDirectory(prefix="rodeo-epoch-") as folder:
        data, logs = pathlib.Path(folder) / "data", pathlib.Path(folder) / "logs"
        run(options.build / "demo_data", "--out", data, "--classes", 16, "--per_class", options.per_class)
        step = run(*pinned, options.build / "bench_step", *same, "--batch", options.batch, "--crop",
                   options.crop, "--width", options.width, "--steps", 20, "--cache_dir", logs)
        train = [*pinned, options.build / "train", *same, "--data_root", data, "--batch_size", options.batch,
                 "--crop_size", options.crop, "--image_size", options.crop * 8 // 7, "--arch_width", options.width,
                 "--pretrained", "none", "--test_batches", 1, "--tier", options.tier]
        output = run(*train, "--logdir", logs, "--epochs", options.epochs)
        metrics = [json.loads(line) for line in next(logs.glob("*/metrics.jsonl")).read_text().splitlines()]
        launches = [launch(*train, "--logdir", logdir, "--epochs", 1, "--sanitycheck")
                    for logdir in (pathlib.Path(folder) / "fresh", logs)]
    first = step.splitlines()[0]
    ms = float(re.search(r"([\d.]+) ms a step", first).group(1))
    seconds = statistics.median(line["seconds_train"] for line in metrics[1:])
    steps = options.per_class * 16 // options.batch
    print(first)
    print(next(line for line in output.splitlines() if line.startswith("Pictures: ")))
    print(f"an epoch of {steps} steps on CPU cores {options.cores}: {seconds:.2f} s (median of "
          f"{len(metrics) - 1}), {statistics.median(l['pairs_per_second'] for l in metrics[1:]):.0f} pairs/s; "
          f"the device is busy for {100 * steps * ms / 1000 / seconds:.1f} % of it")
    print(f"the first epoch: {metrics[0]['seconds_train']:.2f} s")
    for which, (began, ended) in zip(("in a new log folder", "in one that knows the engines"), launches):
        print(f"launch with packed data {which}: the first step begins after {began:.2f} s, has ended after "
              f"{ended:.2f} s")


if __name__ == "__main__":
    main()
