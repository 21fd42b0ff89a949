"""bench/compare on GPUs that lack a precision or memory, with stand-ins for both programs; bench/epoch.py
where only some cores may be used.

Needs Python's standard library and bash only.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BENCH = pathlib.Path(__file__).resolve().parent.parent / "bench"

BENCH_STEP = """#!/bin/sh
case "$*" in
    *"--precision tf32"*)
        echo "bench_step: --precision tf32: GPU has no TF32 units" >&2
        exit 1 ;;
esac
echo "rodeo, GPU, merged: ResNet-18 width 64 at 224, batch 64: 20.00 ms a step (median of 50)"
"""

PYTHON = """#!/bin/sh
case "$*" in
    -c*) exit 0 ;;
    *"--mode fp32"*) echo "$FP32" >&2; exit 1 ;;
    *"--mode graph"*) echo "torch.OutOfMemoryError: CUDA out of memory. Tried" >&2; exit 1 ;;
esac
echo "pytorch 2 amp channels_last batch 64, GPU: 40.00 ms a step (median of 50)"
"""


class CompareTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="rodeo-compare-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name, text in (("bench_step", BENCH_STEP), ("python", PYTHON)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)

    def compare(self, fp32_failure):
        environment = {**os.environ, "BUILD": str(self.folder), "PYTHON": str(self.folder / "python"),
                       "FP32": fp32_failure}
        return subprocess.run([BENCH / "compare", "--device", "cuda"], env=environment, capture_output=True, text=True,
                              check=False, timeout=60)

    def test_what_finds_no_memory_is_left_out(self):
        result = self.compare("torch.OutOfMemoryError: CUDA out of memory. Tried")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("no ratio fp32: PyTorch finds no memory at batch 64\n", result.stdout)
        self.assertNotIn("ratio tf32", result.stdout)
        self.assertIn("PyTorch, graph, channels_last: left out, its memory does not suffice\n", result.stdout)
        self.assertIn("ratio fp16: Rodeo takes 0.50 of the time", result.stdout)

    def test_another_failure_ends_it(self):
        result = self.compare("ImportError: no module")
        self.assertEqual(result.returncode, 1)
        self.assertIn("ImportError", result.stdout)
        self.assertEqual(result.stderr, "compare: step_pytorch.py failed\n")


class EpochTest(unittest.TestCase):
    def test_cores_are_those_that_may_be_used(self):
        last = max(os.sched_getaffinity(0))
        result = subprocess.run([sys.executable, BENCH / "epoch.py", "-h"], capture_output=True, text=True,
                                check=True, timeout=60, preexec_fn=lambda: os.sched_setaffinity(0, {last}))
        self.assertIn(f"--cores CORES CPU cores that both may use (default: {last})",
                      " ".join(result.stdout.split()))


if __name__ == "__main__":
    unittest.main(verbosity=2)
