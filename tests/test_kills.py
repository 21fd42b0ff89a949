"""Kills training runs with SIGKILL at random moments, resumes them, and compares what they come to
with an undisturbed run: weights, kept weights, metrics and TensorBoard's scalars must be equal.

A run is killed and resumed again and again until a life reaches its end; then the next run begins.
Most kills come at a random time; some wait for a phase that is short (packing, a checkpoint being
written). In which phase each one hit is read from what it left behind, and every phase must have
been hit. Ends with 77 (skipped) where the device is not there.
"""
import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import run_files

SETTINGS = ["--arch_width", "8", "--image_size", "72", "--crop_size", "65", "--batch_size", "4",
            "--threads", "1", "--num_workers", "1", "--lr", "0.01", "--epochs", "3",
            "--checkpoint_minutes", "0.0004", "--keep", "1", "--resume"]
PHASES = ("start-up", "packing", "training", "testing", "writing a checkpoint")
LEAST = 3  # kills that every phase must have had


class Killer:
    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.random = random.Random(options.seed)
        self.kills = 0
        self.hit = collections.Counter()
        self.choices = folder / "choices"  # on a GPU: the log folder whose algorithms all runs use

    def command(self, logdir, cache):
        return [self.options.build / "train", "--data_root", self.folder / "data", "--logdir", logdir,
                "--cache_dir", cache, "--device", self.options.device, *SETTINGS]

    def measure_algorithms(self):
        """Ends the test where there is no GPU."""
        result = subprocess.run([*self.command(self.choices, self.folder / "choices-cache"), "--epochs", "1"],
                                capture_output=True, text=True, check=False)
        if result.returncode != 0 and "device cuda:" in result.stderr:
            print(f"skipped: {result.stderr.strip()}")
            sys.exit(77)
        assert result.returncode == 0, result.stderr

    def new_logdir(self, name):
        if self.options.device == "cuda":
            run_files.copy_choices(self.choices, self.folder / name)
        return self.folder / name

    def make_expected(self):
        made = subprocess.run([self.options.build / "demo_data", "--out", self.folder / "data",
                               "--classes", "3", "--per_class", "8", "--seed", "3"],
                              capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        if self.options.device == "cuda":
            self.measure_algorithms()
        logdir = self.new_logdir("whole")
        start = time.monotonic()
        whole = subprocess.run(self.command(logdir, self.folder / "whole-cache"),
                               capture_output=True, text=True, check=False)
        assert whole.returncode == 0, whole.stderr
        self.duration = time.monotonic() - start
        return run_files.state_of(run_files.run_folder(logdir))

    def wait_for(self, process, folder, pattern):
        """Until a file of that name is there, or the process has ended, or long enough."""
        end = time.monotonic() + 2 * self.duration
        while time.monotonic() < end and process.poll() is None:
            if folder.exists() and next(folder.glob(pattern), None):
                return
            time.sleep(0.0005)

    def wait(self, process, logdir, cache):
        """Until the moment of the kill."""
        choice = self.random.random()
        if choice < 0.15:
            self.wait_for(process, logdir, "*/checkpoint.safetensors.tmp")
            time.sleep(self.random.uniform(0, 0.01))
        elif choice < 0.3 and not cache.exists():
            self.wait_for(process, cache, "*.tmp")
            time.sleep(self.random.uniform(0, 0.01))
        elif choice < 0.4:
            time.sleep(self.random.uniform(0, 0.05))
        else:
            time.sleep(self.random.uniform(0, self.duration))

    def phase(self, output, logdir, cache):
        if cache.exists() and next(cache.glob("*.tmp"), None):
            return "packing"
        if next(logdir.glob("*/*.safetensors.tmp"), None):
            return "writing a checkpoint"
        steps = [line for line in output.splitlines() if line.startswith("Epoch")]
        if not steps:
            return "start-up"
        return "training" if " / " in steps[-1] else "testing"

    def live(self, logdir, cache):
        """Lets a run live once. True if it reached its end before the kill."""
        with open(self.folder / "stdout", "w+", encoding="utf-8") as out, \
                open(self.folder / "stderr", "w+", encoding="utf-8") as error:
            with subprocess.Popen(self.command(logdir, cache), stdout=out, stderr=error) as process:
                self.wait(process, logdir, cache)
                process.kill()
            if process.returncode == -9:
                self.kills += 1
                out.seek(0)
                self.hit[self.phase(out.read(), logdir, cache)] += 1
            elif process.returncode != 0:
                error.seek(0)
                raise AssertionError(f"kill {self.kills}: a resumed run failed with "
                                     f"{process.returncode}: {error.read()}")
            return process.returncode == 0

    def enough(self):
        return self.kills >= self.options.kills and all(self.hit[phase] >= LEAST for phase in PHASES)

    def run(self):
        expected = self.make_expected()
        finished = []
        start = time.monotonic()
        while not self.enough():
            if time.monotonic() - start > self.options.seconds:
                raise AssertionError(f"only {self.kills} kills in {self.options.seconds} s: {self.hit}")
            number = len(finished)
            logdir, cache = self.new_logdir(f"run-{number}"), self.folder / f"cache-{number}"
            while not self.live(logdir, cache):
                pass
            folder = run_files.run_folder(logdir)
            problem = run_files.difference(expected, run_files.state_of(folder))
            assert not problem, f"run {number} of seed {self.options.seed}, {self.hit}: {problem}"
            left = [path.name for path in folder.glob("*.tmp")]
            assert not left, f"run {number}: {left} are left"
            finished.append(folder)
            shutil.rmtree(cache)
        self.compare_scalars(finished)
        print(f"{self.kills} kills over {len(finished)} runs, all of which came to the undisturbed run's "
              f"weights, metrics and scalars; by phase: {dict(self.hit)}")

    def compare_scalars(self, finished):
        python = run_files.tensorboard_python()
        if not python:
            print("TensorBoard is not there: the scalars are not compared")
            return
        whole = run_files.run_folder(self.folder / "whole")
        expected, *scalars = run_files.read_scalars(python, [whole, *finished])
        assert len(expected) >= 15 and all(len(points) == 3 for points in expected.values()), expected
        for folder, ours in zip(finished, scalars):
            assert ours == expected, f"{folder}: scalars {ours} instead of {expected}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path, help="build folder")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--kills", type=int, default=200, help="at least this many (200)")
    parser.add_argument("--seconds", type=float, default=600, help="fail after this time (600)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments (the time)")
    options = parser.parse_args()
    options.build = options.build.resolve()
    with tempfile.TemporaryDirectory(prefix="rodeo-kills-") as folder:
        print(f"seed {options.seed}")
        Killer(options, pathlib.Path(folder)).run()


if __name__ == "__main__":
    main()
