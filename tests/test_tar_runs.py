"""Training and evaluation on a tar file and in every tier: the same weights, bit for bit, as on the
unpacked folder.

Usage: test_tar_runs.py BUILD_FOLDER. Needs Python's standard library only.
"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
SMALL = ["--arch_width", "4", "--image_size", "72", "--crop_size", "66", "--batch_size", "4",
         "--threads", "1", "--num_workers", "2", "--lr", "0.01", "--device", "cpu", "--epochs", "2"]


def call(program, *arguments):
    return subprocess.run([BUILD / program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=600, check=False)


class TarTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-tar-"))
        cls.tar = cls.folder / "set.tar"
        made = call("demo_data", "--out", cls.folder / "made", "--classes", 3, "--per_class", 12,
                    "--seed", 3, "--tar", cls.tar)
        assert made.returncode == 0, made.stderr
        with tarfile.open(cls.tar) as tar:
            tar.extractall(cls.folder)
        cls.data = cls.folder / "ROD-synROD"
        cls.expected = cls.weights(cls.train("folder", cls.data))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, name, data, *arguments):
        """The run's folder."""
        logdir = cls.folder / name
        result = call("train", "--data_root", data, "--logdir", logdir, *SMALL, *arguments)
        assert result.returncode == 0, result.stderr
        cls.stderr = result.stderr
        return next(logdir.iterdir())

    @staticmethod
    def weights(run):
        """The checkpoint's tensors: everything behind its header."""
        content = (run / "checkpoint.safetensors").read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8:8 + length])
        del header["__metadata__"]
        return header, content[8 + length:]

    def test_tar_gives_the_weights_of_the_folder(self):
        self.assertEqual(self.weights(self.train("tar", self.tar)), self.expected)
        for pack in (self.data / "rodeo-cache").glob("*.pack"):
            beside = self.folder / "rodeo-cache" / pack.name
            self.assertEqual(pack.read_bytes(), beside.read_bytes(), pack.name)

    def test_every_tier_gives_the_same_weights(self):
        for tier in ("device", "ram", "disk"):
            with self.subTest(tier=tier):
                run = self.train(tier, self.data, "--tier", tier)
                self.assertEqual(self.weights(run), self.expected)
                self.assertIn(f"(tier {tier})", self.stderr)

    def test_evaluate_takes_the_tar(self):
        run = self.train("evaluated", self.tar)
        answers = []
        for data in (self.data, self.tar):
            out = self.folder / "answers"
            result = call("evaluate", "--data_root", data, "--checkpoint", run, "--out", out,
                          "--device", "cpu", "--threads", 1)
            self.assertEqual(result.returncode, 0, result.stderr)
            answers.append((result.stdout, [p.read_bytes() for p in sorted(out.glob("*.csv"))]))
        self.assertEqual(answers[0], answers[1])

    def test_a_plan_needs_files(self):
        plan = self.folder / "plan"
        arguments = ["--data_root", self.tar, "--logdir", self.folder / "planned", *SMALL, "--dump_plan", plan]
        result = call("train", *arguments, "--steps", 1)
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"--dump_plan: the pictures of a plan must be files, and {self.tar} is a tar file",
                      result.stderr.strip().splitlines()[-1])
        self.assertFalse(plan.exists())
        self.assertEqual(call("train", *arguments, "--steps", 0).returncode, 0)

    def test_pictures_of_a_bad_step_are_named_below_their_data_set(self):
        logdir = self.folder / "nan"
        result = call("train", "--data_root", self.tar, "--logdir", logdir, *SMALL, "--lr", "1e12")
        self.assertEqual(result.returncode, 1)
        lines = (next(logdir.iterdir()) / "bad-step.txt").read_text().splitlines()[4:]
        self.assertEqual(len(lines), 16)
        for line in lines:
            fields = line.split("\t")
            below = self.data / ("synROD" if fields[0].startswith("source") else "ROD")
            for path in fields[7:]:
                self.assertTrue(not path.startswith("/") and (below / path).is_file(), path)

    def test_wrong_tars_are_told_in_one_line(self):
        truncated = self.folder / "truncated.tar"
        truncated.write_bytes(self.tar.read_bytes()[:300_000])
        other = self.folder / "other.tar"
        with tarfile.open(other, "w") as tar:
            tar.add(self.data / "ROD", "ROD")
        text = self.folder / "text.tar"
        text.write_text("quota exceeded\n")
        for path, message in ((truncated, "is truncated or damaged"),
                              (other, "there is no synROD/synARID_50k-split_sync_train1.txt in it"),
                              (text, "is neither a folder nor a sound tar file"),
                              (self.folder / "none.tar", "there is no such folder or tar file")):
            with self.subTest(path=path.name):
                result = call("train", "--data_root", path, "--logdir", self.folder / "wrong", *SMALL)
                self.assertEqual(result.returncode, 1)
                last = result.stderr.strip().splitlines()[-1]
                self.assertIn(path.name, last)
                self.assertIn(message, last)
                packs = list((self.folder / "rodeo-cache").glob(f"{path.name}*"))
                self.assertEqual(packs, [])

    def test_bad_pictures_may_be_left_out(self):
        data = self.folder / "bad"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        line = (data / "synROD/synARID_50k-split_sync_train1.txt").read_text().split("\n")[4]
        picture = data / "synROD" / line.split(" ")[0].replace("***", "depth")
        picture.write_bytes(picture.read_bytes()[:-30])
        result = call("train", "--data_root", data, "--logdir", self.folder / "bad-runs", *SMALL)
        self.assertEqual(result.returncode, 1)
        self.assertIn(str(picture), result.stderr.strip().splitlines()[-1])
        self.train("bad-runs", data, "--skip_bad", 1)
        self.assertIn("1 pictures cannot be decoded: 1 of the 36 pairs are left out", self.stderr)
        info = call("pack", "--info", data / "rodeo-cache" / "synROD-train-72.pack")
        self.assertIn(line.split(" ")[0].replace("***", "depth") + ": is truncated", info.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
