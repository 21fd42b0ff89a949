"""A small generated data set and one whole run on it, for tests of what the programs show and leave behind.
Takes the build folder from the command line. Python's standard library only.
"""
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
SMALL = ["--arch_width", "4", "--image_size", "72", "--crop_size", "66", "--batch_size", "4",
         "--threads", "1", "--num_workers", "1", "--lr", "0.01", "--device", "cpu", "--epochs", "3"]


def call(program, *arguments, **options):
    """Runs a program of the build to its end."""
    return subprocess.run([BUILD / program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=600, check=False, **options)


def limit_file_size(limit):
    """For preexec_fn: writing a file beyond limit bytes fails, as on a full disk."""
    def apply():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return apply


class RunFixture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-runs-"))
        cls.data = cls.folder / "data"
        made = call("demo_data", "--out", cls.data, "--classes", 3, "--per_class", 12, "--seed", 3)
        assert made.returncode == 0, made.stderr
        cls.whole = cls.folder / "whole"
        cls.undisturbed = cls.train(cls.whole)
        assert cls.undisturbed.returncode == 0, cls.undisturbed.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, logdir, *arguments, data=None, **options):
        return call("train", "--data_root", data or cls.data, "--logdir", logdir, *SMALL, *arguments,
                    **options)

    def run_folder(self, logdir):
        runs = [path for path in pathlib.Path(logdir).iterdir() if path.is_dir()]
        self.assertEqual(len(runs), 1)
        return runs[0]

    def assert_one_line(self, result, *parts):
        """It failed, and its last line on stderr says so with all these parts."""
        self.assertEqual(result.returncode, 1, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        for part in parts:
            self.assertIn(str(part), last)
        self.assertNotIn("Sanitizer", result.stderr)

    def copy_of_whole(self, name):
        logdir = self.folder / name
        shutil.copytree(self.whole, logdir)
        return logdir
