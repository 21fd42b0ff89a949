"""Training runs in which calls to the file system fail: each call in turn, with ENOSPC, EIO, EROFS and
short writes, once or from then on.

Whatever fails: the program does not crash, says what is wrong if it does not reach its end, leaves no
checkpoint that is accepted though damaged, never loses the last good one, and the same command with
--resume on a disk that works again comes to what an undisturbed run comes to.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import run_files

SETTINGS = ["--arch_width", "4", "--image_size", "72", "--crop_size", "65", "--batch_size", "4",
            "--threads", "1", "--num_workers", "1", "--lr", "0.01", "--device", "cpu", "--epochs", "2",
            "--checkpoint_minutes", "0.0003", "--keep", "1", "--resume"]
ERRORS = ("ENOSPC", "EIO", "EROFS", "SHORT")
REASONS = {"ENOSPC": "No space left", "SHORT": "No space left", "EIO": "Input/output error",
           "EROFS": "Read-only file system"}
WORKERS = 4  # runs at a time: most of their time is waiting for the disk
BEHIND = 12  # calls that a run may make more than the counted one: checkpoints come by the clock


class Faults:
    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.library = options.build / "tests" / "libfault.so"
        self.seen = {"told": 0, "ended": 0}

    def train(self, logdir, cache, **fault):
        environment = dict(os.environ)
        if fault:
            environment.update(LD_PRELOAD=str(self.library), RODEO_FAULT_FOLDERS=f"{logdir}:{cache}",
                               ASAN_OPTIONS="verify_asan_link_order=0",
                               **{f"RODEO_FAULT_{key.upper()}": str(value) for key, value in fault.items()})
        return subprocess.run([self.options.build / "train", "--data_root", self.folder / "data",
                               "--logdir", logdir, "--cache_dir", cache, *SETTINGS],
                              env=environment, capture_output=True, text=True, check=False, timeout=120)

    def prepare(self):
        """The undisturbed result, a run that ended within its second epoch, and how many calls a run makes."""
        made = subprocess.run([self.options.build / "demo_data", "--out", self.folder / "data",
                               "--classes", "3", "--per_class", "8", "--seed", "3"],
                              capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        report = self.folder / "calls"
        whole = self.train(self.folder / "whole", self.folder / "cache", at=0, report=report)
        assert whole.returncode == 0, whole.stderr
        self.expected = run_files.state_of(run_files.run_folder(self.folder / "whole"))
        self.names = [line.split()[0] for line in report.read_text().splitlines()]

    def good_checkpoint(self, logdir):
        """The place in the run of the newest checkpoint that is whole, as the program judges it."""
        folders = [path for path in logdir.iterdir() if path.is_dir()] if logdir.exists() else []
        best = (0, 0)
        for path in (folders[0].glob("checkpoint.safetensors*") if folders else ()):
            if path.suffix == ".tmp":
                continue
            metadata, _ = run_files.read_safetensors(path)
            best = max(best, (int(metadata["rodeo.steps"]), int(metadata["rodeo.epoch"])))
        return best

    def fail_at(self, number, error, lasting):
        """One run in which the call of that number fails, and its resumption."""
        what = f"call {number} with {error}{', lasting' if lasting else ''}"
        name = f"log-{number}-{error}-{int(lasting)}"
        logdir, cache = self.folder / name, self.folder / f"cache-{name}"
        result = self.train(logdir, cache, at=number, error=error, lasting=int(lasting))
        assert result.returncode in (0, 1), f"{what}: {result.returncode} {result.stderr}"
        last = result.stderr.strip().splitlines()[-1]
        if result.returncode == 1:
            assert last.startswith("train: ") and REASONS[error] in last, f"{what}: {result.stderr}"
            self.seen["ended"] += 1
        elif REASONS[error] in result.stderr:
            self.seen["told"] += 1
        if result.returncode == 0:
            problem = self.compare(logdir)
            assert not problem, f"{what}: reported success, but {problem}"
        before = self.good_checkpoint(logdir)
        resumed = self.train(logdir, cache)
        assert resumed.returncode == 0, f"{what}: cannot be resumed: {resumed.stderr}"
        assert "damaged" not in resumed.stderr, f"{what}: {resumed.stderr}"
        if before > (0, 0):
            assert "Loaded checkpoint" in resumed.stdout, f"{what}: {before} was lost: {resumed.stderr}"
        problem = self.compare(logdir)
        assert not problem, f"{what}, after resuming: {problem}"
        shutil.rmtree(logdir)
        shutil.rmtree(cache, ignore_errors=True)

    def compare(self, logdir):
        return run_files.difference(self.expected, run_files.state_of(run_files.run_folder(logdir)))

    def run(self):
        self.prepare()
        start = time.monotonic()
        count = len(self.names) + BEHIND
        cases = []
        for number in range(1, count + 1, self.options.stride):
            turn = number // self.options.stride
            errors = ERRORS if self.options.every else (ERRORS[turn % len(ERRORS)],)
            lastings = (False, True) if self.options.every or number <= 12 else (turn // 4 % 2 == 1,)
            cases += [(number, error, lasting) for error in errors for lasting in lastings]
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for done, _ in enumerate(pool.map(lambda case: self.fail_at(*case), cases), 1):
                if done % 50 == 0:
                    print(f"{done} of {len(cases)} faults, {time.monotonic() - start:.0f} s", flush=True)
        kinds = {name: self.names.count(name) for name in sorted(set(self.names))}
        assert self.seen["ended"] > 0 and self.seen["told"] > 0, self.seen
        print(f"{len(cases)} runs with a fault, among {count} calls ({kinds} in an undisturbed run): "
              f"{self.seen['ended']} ended with an error, {self.seen['told']} warned and went on; all could "
              "be resumed to the undisturbed run's weights and metrics")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path, help="build folder")
    parser.add_argument("--every", action="store_true",
                        help="every error at every call, once and lasting, instead of one of them in turn")
    parser.add_argument("--stride", type=int, default=1, help="only every STRIDEth call (1)")
    options = parser.parse_args()
    options.build = options.build.resolve()
    with tempfile.TemporaryDirectory(prefix="rodeo-faults-") as folder:
        Faults(options, pathlib.Path(folder)).run()


if __name__ == "__main__":
    main()
