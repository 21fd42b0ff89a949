"""The programs beside the training one, and what all have in common, on a small generated data set: what a user
sees and what is left on disk.

Usage: test_programs.py BUILD_FOLDER. Needs Python's standard library only.
"""
import csv
import json
import os
import re
import shutil
import subprocess
import time
import unittest

from run_files import read_metrics
from run_fixture import BUILD, SMALL, RunFixture, call


class ProgramsTest(RunFixture):
    # ---- plot_runs ----

    def test_plot_runs_prints_a_table(self):
        run = self.run_folder(self.whole)
        result = call("plot_runs", "--out", self.folder / "curves.png", run, f"{run}=Überlauf",
                      f"{run}=plain")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        metrics = read_metrics(run)[-1]
        for line, name in zip(lines, ("run", run.name, "Überlauf", "plain")):
            self.assertEqual(len(line), len(lines[0]))
            self.assertEqual(line.split()[0], name)
        for line in lines[1:]:
            self.assertEqual(line.split()[1:], ["3", f"{100 * metrics['source_accuracy']:.2f}", "%",
                                                f"{100 * metrics['target_accuracy']:.2f}", "%"])

    def test_plot_runs_names_the_folder_that_is_missing(self):
        """Run names are full of '=': the last one is no label's where there is no such folder."""
        for missing in (f"{self.folder}/lr=0.1_dataset=ROD-synROD", f"{self.folder}/none=label",
                        self.run_folder(self.whole) / "metrics.jsonl"):
            with self.subTest(missing=missing):
                self.assert_one_line(call("plot_runs", "--out", self.folder / "no.png", missing),
                                     f"plot_runs: {missing}: there is no such folder")

    # ---- evaluate ----

    def test_evaluate_agrees_with_training(self):
        out = self.folder / "evaluation"
        checkpoint = self.run_folder(self.whole) / "checkpoint.safetensors"
        result = call("evaluate", "--data_root", self.data, "--checkpoint", checkpoint, "--out", out,
                      "--threads", 1, "--batch_size", 7)
        self.assertEqual(result.returncode, 0, result.stderr)
        metrics = json.loads((checkpoint.parent / "metrics.jsonl").read_text().splitlines()[-1])
        with open(out / "target-predictions.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 36)
        correct = sum(row["true class"] == row["predicted class"] for row in rows)
        self.assertEqual(correct, sum(int(row["correct"]) for row in rows))
        self.assertEqual(correct / 36, metrics["target_accuracy"])
        with open(out / "target-confusion.csv", encoding="utf-8") as file:
            matrix = [[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
        self.assertEqual(sum(matrix[i][i] for i in range(3)), correct)
        self.assertEqual([sum(row) for row in matrix], [12, 12, 12])
        self.assertIn(f"target accuracy: {100 * correct / 36:.2f} %", result.stdout)
        self.assertEqual((out / "target-confusion.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_evaluate_takes_no_larger_batch_than_there_are_pairs(self):
        outs, peaks = [], []
        for batch in (7, 4096):
            outs.append(self.folder / f"batch-{batch}")
            process = subprocess.Popen(
                [BUILD / "evaluate", "--data_root", self.data, "--checkpoint",
                 self.run_folder(self.whole), "--threads", "1", "--out", outs[-1], "--batch_size",
                 str(batch)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(process.returncode, 0)
            peaks.append(usage.ru_maxrss / 1024)
        self.assertLess(peaks[1], peaks[0] + 200)  # MiB
        for name in ("source-predictions.csv", "target-predictions.csv"):
            self.assertEqual((outs[0] / name).read_bytes(), (outs[1] / name).read_bytes())

    def test_evaluate_takes_class_names_of_any_bytes(self):
        data = self.folder / "latin-1"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        name = b"b\xe4ll"
        os.rename(data / "synROD/ball", os.fsencode(data / "synROD") + b"/" + name)
        for path in (data / "synROD").glob("*.txt"):
            path.write_bytes(path.read_bytes().replace(b"ball/", name + b"/"))
        out = self.folder / "latin-1-evaluation"
        result = call("evaluate", "--data_root", data, "--checkpoint", self.run_folder(self.whole), "--out", out,
                      "--threads", 1, errors="surrogateescape")
        self.assertEqual(result.returncode, 0, result.stderr)
        for part in ("source", "target"):
            self.assertTrue((out / f"{part}-confusion.png").exists())
            self.assertIn(name, (out / f"{part}-confusion.csv").read_bytes())

    def test_evaluate_names_classes_that_were_not_trained(self):
        """Class 1 has no pictures in the training set, class 2 nowhere: what was class 2 is class 3."""
        data = self.folder / "gaps"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        for path in (*data.glob("synROD/*.txt"), *data.glob("ROD/*.txt")):
            lines = [re.sub(" 2$", " 3", line) for line in path.read_text().splitlines()]
            lines = [line for line in lines if "train" not in path.name or not line.endswith(" 1")]
            path.write_text("\n".join(lines) + "\n")
        logdir = self.folder / "gaps-log"
        self.assertEqual(self.train(logdir, "--epochs", 1, data=data).returncode, 0)
        run = self.run_folder(logdir)
        result = call("evaluate", "--data_root", data, "--checkpoint", run, "--threads", 1)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = (run / "evaluation/target-confusion.csv").read_text().splitlines()
        self.assertEqual(lines[0], "true class,apple,ball,class 2,banana")
        self.assertEqual([line.split(",")[0] for line in lines[1:]], ["apple", "ball", "class 2", "banana"])
        self.assertIn("  ball  ", result.stdout)

    def test_evaluate_refuses_what_is_no_checkpoint(self):
        wrong = self.folder / "wrong.safetensors"
        wrong.write_bytes(b"nonsense")
        weights = self.folder / "weights"
        exported = call("export", "--checkpoint", self.run_folder(self.whole), "--out", weights)
        self.assertEqual(exported.returncode, 0, exported.stderr)
        trunk = weights / "rgb_trunk.safetensors"
        for program, *data in (["evaluate", "--data_root", self.data], ["export"]):
            with self.subTest(program=program):
                self.assert_one_line(call(program, *data, "--checkpoint", wrong), wrong)
                self.assert_one_line(call(program, *data, "--checkpoint", trunk), trunk,
                                     "is a weight file, not a checkpoint of a run")
                result = call(program, *data, "--checkpoint", weights)
                self.assert_one_line(result, weights, "there is no checkpoint.safetensors")
                self.assertNotIn("--resume", result.stderr)

    # ---- all programs ----

    def test_output_that_cannot_be_written_is_an_error(self):
        run = self.run_folder(self.whole)
        data = ["--data_root", self.data, "--cache_dir", self.folder / "full-cache"]
        calls = (["pack", *data, "--image_size", "72"],
                 ["evaluate", *data, "--checkpoint", run, "--out", self.folder / "full-evaluation"],
                 ["export", "--checkpoint", run, "--out", self.folder / "full-export"],
                 ["plot_runs", "--out", self.folder / "full.png", run],
                 ["demo_data", "--sheet", self.folder / "full-sheet.png", "--classes", "2"],
                 ["pack", "--help"], ["train", "--help"], ["evaluate", "--version"])
        for program, *arguments in calls:
            with self.subTest(program=program, arguments=arguments), open("/dev/full", "w") as full:
                result = subprocess.run([BUILD / program, *map(str, arguments)], stdout=full,
                                        stderr=subprocess.PIPE, text=True, timeout=600, check=False)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn(f"{program}: standard output: ", result.stderr.splitlines()[-1])

    def test_closed_streams_are_no_files(self):
        """What is printed must not end in a file that got the number of a closed stream."""
        logdir = self.folder / "closed"
        process = subprocess.Popen(
            [BUILD / "train", "--data_root", self.data, "--logdir", logdir, *SMALL, "--epochs", "9"],
            preexec_fn=lambda: [os.close(fd) for fd in (0, 1, 2)])
        names = []
        while process.poll() is None:
            try:
                names.append([os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 1, 2)])
            except OSError:
                pass  # not begun yet, or gone already
            time.sleep(0.01)
        self.assertEqual(process.returncode, 0)
        self.assertIn(["/dev/null"] * 3, names)
        self.assertEqual([n for n in names if str(logdir) in " ".join(n)], [])
        self.assertEqual((self.run_folder(logdir) / "run.lock").read_text(), "")

    def test_programs_read_options_alike(self):
        for program in ("train", "evaluate", "pack", "demo_data", "plot_runs", "bench_step"):
            with self.subTest(program=program):
                text = call(program, "--help")
                self.assertEqual((text.returncode, text.stderr), (0, ""))
                self.assertIn("-h, --help", text.stdout)
                self.assertNotRegex(text.stdout, r"(?m)^ {30,}--")  # an option, moved from its place
                self.assertNotRegex(text.stdout, r"(?m)^(/content|experiments)/")  # a broken command
                self.assertEqual(call(program, "-h").stdout, text.stdout)
                self.assertRegex(call(program, "--version").stdout, r"^rodeo \d+\.\d+\.\d+\n$")
                for arguments in (["--nonsense"], ["-x"], ["-b", "1"], ["a", "b", "c", "d"]):
                    result = call(program, *arguments)
                    self.assert_one_line(result)
                    self.assertRegex(result.stderr,
                                     rf"^{program}: [^\n]+ \({program} -h explains the options\)\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
