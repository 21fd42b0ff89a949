"""Whole runs of the programs on a GPU in half precision: tiers, stopping and going on, evaluation, plans.

Usage: test_gpu_runs.py BUILD_FOLDER. Ends with 77 where no GPU is. Needs Python's standard library only.
"""
import csv
import json
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import unittest

import run_files

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
STOPPED, SKIPPED = 75, 77
SMALL = ["--arch_width", "4", "--image_size", "72", "--crop_size", "65", "--batch_size", "4", "--lr", "0.01",
         "--num_workers", "1", "--device", "cuda"]


def run(program, *arguments):
    return subprocess.run([BUILD / program, *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=300)


class GpuRunsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-gpu-runs-"))
        cls.data = cls.folder / "data"
        made = run("demo_data", "--out", cls.data, "--classes", 3, "--per_class", 12, "--seed", 3)
        assert made.returncode == 0, made.stderr
        cls.whole = cls.folder / "whole"
        trained = run("train", *cls.arguments(cls.whole))
        if trained.returncode != 0 and "device cuda:" in trained.stderr:
            print(f"skipped: {trained.stderr.strip().splitlines()[-1]}")
            shutil.rmtree(cls.folder)
            sys.exit(SKIPPED)
        assert trained.returncode == 0, trained.stderr
        assert "(tier device, chosen by free memory)" in trained.stderr, trained.stderr
        cls.trained = trained
        cls.expected = run_files.state_of(run_files.run_folder(cls.whole))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def arguments(cls, logdir, *more):
        if cls.whole.exists() and logdir != cls.whole:
            run_files.copy_choices(cls.whole, logdir)
        return ["--data_root", str(cls.data), "--logdir", str(logdir), *SMALL, "--epochs", "2",
                "--precision", "fp16", *map(str, more)]

    def assert_fine(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)

    def assert_equals_whole(self, logdir):
        state = run_files.state_of(run_files.run_folder(logdir))
        self.assertEqual(run_files.difference(self.expected, state), "")

    def test_the_gpu_is_named_as_by_pytorch(self):
        device = self.trained.stdout.splitlines()[1]  # memory and precision stand in a line of their own
        self.assertRegex(device, r"^Running on device [^,]+$")
        name = device.removeprefix("Running on device ")
        self.assertRegex(self.trained.stderr,
                         rf"(?m)^Running on the GPU: {re.escape(name)}, \d+ GiB, fp16\.$")

    def test_every_tier_trains_alike(self):
        for tier in ("ram", "disk"):
            with self.subTest(tier=tier):
                logdir = self.folder / tier
                result = run("train", *self.arguments(logdir, "--tier", tier))
                self.assert_fine(result)
                self.assertIn(f"(tier {tier})", result.stderr)
                self.assert_equals_whole(logdir)

    def stop_in_second_epoch(self, logdir):
        """Returns the exit status; a fast GPU may have ended the run before the signal comes."""
        with subprocess.Popen([BUILD / "train", *self.arguments(logdir)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            while process.stdout.readline() != "Epoch 2 / 2\n":
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGTERM)
            process.communicate()
        return process.returncode

    def test_a_stopped_run_goes_on_as_if_it_had_not_been(self):
        tries = (self.folder / f"stopped-{i}" for i in range(10))
        logdir = next((logdir for logdir in tries if self.stop_in_second_epoch(logdir) == STOPPED), None)
        self.assertIsNotNone(logdir, "no run could be stopped in its second epoch")
        stopped = self.folder / "stopped-half"
        shutil.copytree(logdir, stopped)
        result = run("train", *self.arguments(logdir, "--resume", "--threads", 1))
        self.assert_fine(result)
        self.assertNotIn("rounded differently", result.stderr)
        self.assert_equals_whole(logdir)
        result = run("train", *self.arguments(stopped, "--resume"), "--precision", "fp32")
        self.assert_fine(result)
        self.assertRegex(result.stderr, '(?m)^The run goes on with the device "(cuda, .+), fp32" instead of '
                                        r'"\1, fp16": from here on results are rounded differently')

    def predictions(self, device, precision):
        out = self.folder / f"evaluation-{device}-{precision}"
        self.assert_fine(run("evaluate", "--data_root", self.data, "--checkpoint",
                             run_files.run_folder(self.whole), "--out", out, "--device", device,
                             "--precision", precision))
        rows = []
        for name in ("source", "target"):
            with open(out / f"{name}-predictions.csv", encoding="utf-8") as file:
                rows += [(row["picture"], row["predicted class"]) for row in csv.DictReader(file)]
        return rows

    def test_evaluation_is_the_cpu_s(self):
        expected = self.predictions("cpu", "fp32")
        self.assertEqual(self.predictions("cuda", "fp32"), expected)
        half = self.predictions("cuda", "fp16")
        different = sum(ours != theirs for ours, theirs in zip(half, expected))
        self.assertLessEqual(different, len(expected) // 20)

    def first_step(self, *precision):
        """The first planned step behind the whole run, when the loss scale has found its level."""
        plan = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "plan"
        self.assert_fine(run("train", *self.arguments(self.whole, "--resume", "--dump_plan", plan,
                                                      "--steps", 1, *precision)))
        return json.loads((plan / "plan.jsonl").read_text().splitlines()[1])

    def test_plans_gradients_are_without_the_loss_scale(self):
        half, single = self.first_step(), self.first_step("--precision", "fp32")
        for name, loss in single["losses"].items():
            self.assertAlmostEqual(half["losses"][name], loss, delta=0.02 * loss)
        ratios = [half["gradient_norms"][name] / norm for name, norm in single["gradient_norms"].items()
                  if norm > 1e-3]
        self.assertGreater(len(ratios), 50)
        self.assertAlmostEqual(statistics.median(ratios), 1, delta=0.05)

    def test_a_plan_is_in_float32_unless_another_precision_is_named(self):
        self.assertEqual(self.first_step("--precision", "auto"), self.first_step("--precision", "fp32"))

    def test_an_overflow_in_a_plan_is_told(self):
        result = run("train", *self.arguments(self.folder / "overflow", "--steps", 1, "--dump_plan",
                                              self.folder / "overflowing"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("overflowed half precision", result.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
