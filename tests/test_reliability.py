"""How runs stop, go on and refuse to: signals, limits, locks, changed settings, numbers that go wrong.

Usage: test_reliability.py BUILD_FOLDER. Needs Python's standard library only.
"""
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import run_files

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
STOPPED = 75
SMALL = ["--arch_width", "4", "--image_size", "72", "--crop_size", "65", "--batch_size", "4",
         "--threads", "1", "--num_workers", "1", "--lr", "0.01", "--device", "cpu"]


class ReliabilityTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-reliability-"))
        cls.data = cls.folder / "data"
        made = subprocess.run([BUILD / "demo_data", "--out", cls.data, "--classes", "3", "--per_class",
                               "12", "--seed", "3"], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        cls.whole = cls.folder / "whole"
        result = cls.train(cls.whole, "--epochs", 4)
        assert result.returncode == 0, result.stderr
        cls.expected = run_files.state_of(run_files.run_folder(cls.whole))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def command(cls, logdir, *arguments, data=None):
        return [str(word) for word in (BUILD / "train", "--data_root", data or cls.data, "--logdir",
                                       logdir, *SMALL, *arguments)]

    @classmethod
    def train(cls, logdir, *arguments, data=None, **options):
        return subprocess.run(cls.command(logdir, *arguments, data=data), capture_output=True, text=True,
                              check=False, timeout=300, **options)

    def start(self, logdir, *arguments, **options):
        """A run that has begun its second epoch."""
        process = subprocess.Popen(self.command(logdir, *arguments), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, **options)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        while not process.stdout.readline().startswith("Epoch 2 / "):
            self.assertIsNone(process.poll())
        return process

    def copy_of_stopped(self, name):
        """A run of four epochs that was stopped in its second."""
        if not hasattr(type(self), "stopped"):
            type(self).stopped = self.folder / "stopped"
            process = self.start(self.stopped, "--epochs", 4)
            process.send_signal(signal.SIGTERM)
            process.communicate()
            self.assertEqual(process.returncode, STOPPED)
        logdir = self.folder / name
        shutil.copytree(self.stopped, logdir)
        return logdir

    def assert_refused(self, result, *parts):
        self.assertEqual(result.returncode, 1, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        for part in parts:
            self.assertIn(str(part), last)

    def assert_equals_whole(self, logdir):
        state = run_files.state_of(run_files.run_folder(logdir))
        self.assertEqual(run_files.difference(self.expected, state), "")

    # ---- stopping ----

    def test_signals_stop_with_a_checkpoint(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                logdir = self.folder / number.name
                process = self.start(logdir, "--epochs", 4)
                process.send_signal(number)
                start = time.monotonic()
                _, stderr = process.communicate()
                self.assertLess(time.monotonic() - start, 10)
                self.assertEqual(process.returncode, STOPPED)
                last = stderr.strip().splitlines()[-1]
                self.assertRegex(last, r"^Stopped behind epoch \d.* \(" + number.name)
                self.assertIn("--resume", last)
                resumed = self.train(logdir, "--epochs", 4, "--resume")
                self.assertEqual(resumed.returncode, 0, resumed.stderr)
                self.assertIn("Loaded checkpoint", resumed.stdout)
                self.assert_equals_whole(logdir)

    def many_pairs(self):
        """A data root whose training set takes a while to pack."""
        data = self.folder / "many"
        if not data.exists():
            shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("*.pack"))
            listed = next((data / "synROD").glob("*train1.txt"))
            listed.write_text(listed.read_text() * 2000)
        return data

    def signal_while_packing(self, number, command, cache):
        """Sends a signal once a pack is begun, and sees that nothing is left. Returns status and lines."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not list(cache.glob("*.tmp")):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(list(cache.glob("*.tmp")) + list(cache.glob("*.pack")), [])
        return process.returncode, stderr.strip().splitlines()

    def test_signal_while_packing(self):
        """Nothing is left of the pack, and the status is that of every run that may go on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number.name):
                logdir, cache = self.folder / "packing", self.folder / ("packs-" + number.name)
                command = self.command(logdir, "--cache_dir", cache, data=self.many_pairs())
                status, lines = self.signal_while_packing(number, command, cache)
                self.assertEqual(status, STOPPED, lines)
                self.assertIn("interrupted while packing", lines[-2])
                self.assertIn(number.name, lines[-1])
                self.assertIn("The same command", lines[-1])

    def test_signal_while_packing_ahead_of_time(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                cache = self.folder / ("ahead-" + number.name)
                command = [BUILD / "pack", "--data_root", self.many_pairs(), "--cache_dir", cache]
                status, lines = self.signal_while_packing(number, command, cache)
                self.assertEqual(status, 1, lines)
                self.assertIn("pack: interrupted while packing synROD-train", lines[-1])

    def test_signal_while_another_program_packs(self):
        cache = self.folder / "busy"
        cache.mkdir()
        folder = os.open(cache, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        commands = (([BUILD / "pack", "--data_root", self.data, "--cache_dir", cache], 1),
                    (self.command(self.folder / "busy-log", "--cache_dir", cache), STOPPED))
        for command, status in commands:
            with self.subTest(program=command[0]):
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                           text=True)
                self.assertIn("another program is building a pack here", process.stderr.readline())
                start = time.monotonic()
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=60)
                self.assertLess(time.monotonic() - start, 5)
                self.assertEqual(process.returncode, status, stderr)
                self.assertIn("interrupted while waiting for another program", stderr)
                self.assertEqual(list(cache.iterdir()), [])

    def start_slow(self, name):
        """A run whose first step takes minutes, in that step."""
        arguments = ["--epochs", "3", "--arch_width", "96", "--image_size", "256", "--crop_size", "224",
                     "--batch_size", "12", "--weight_decay", "0.1"]
        process = subprocess.Popen(self.command(self.folder / name, *arguments), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        while process.stdout.readline() != "Epoch 1 / 3\n":
            self.assertIsNone(process.poll())
        time.sleep(0.5)
        return process

    def test_second_interrupt_leaves_at_once(self):
        for first in (signal.SIGINT, signal.SIGHUP):
            with self.subTest(first=first.name):
                process = self.start_slow("twice-" + first.name)
                process.send_signal(first)
                time.sleep(0.5)
                self.assertIsNone(process.poll())
                process.send_signal(signal.SIGINT)
                start = time.monotonic()
                process.communicate()
                self.assertLess(time.monotonic() - start, 2)
                self.assertEqual(process.returncode, -signal.SIGINT)

    def test_a_step_that_takes_too_long_is_left(self):
        process = self.start_slow("slow")
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        _, stderr = process.communicate()
        self.assertLess(time.monotonic() - start, 10)
        self.assertEqual(process.returncode, STOPPED)
        self.assertIn("leaving without another checkpoint", stderr)

    def test_time_limit_stops_in_time(self):
        logdir = self.folder / "limit"
        start = time.monotonic()
        result = self.train(logdir, "--epochs", 100000, "--max_hours", 3 / 3600)
        self.assertLess(time.monotonic() - start, 3.5)
        self.assertGreater(time.monotonic() - start, 1)
        self.assertEqual(result.returncode, STOPPED, result.stderr)
        self.assertIn("--max_hours", result.stderr.splitlines()[-1])

    def test_the_reader_of_the_output_may_go_first(self):
        """As `| tee` does when both get an interrupt."""
        logdir = self.folder / "pipe"
        process = self.start(logdir, "--epochs", 4)
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
        self.assertEqual(process.wait(), STOPPED, stderr)
        self.assertEqual(self.train(logdir, "--epochs", 4, "--resume").returncode, 0)
        self.assert_equals_whole(logdir)

    def test_ignored_signals_stay_ignored(self):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        process = self.start(self.folder / "nohup", "--epochs", 4, preexec_fn=ignore)
        process.send_signal(signal.SIGHUP)
        process.communicate()
        self.assertEqual(process.returncode, 0)

    # ---- one process in a folder ----

    def test_second_process_is_refused(self):
        logdir = self.folder / "locked"
        process = self.start(logdir, "--epochs", 100000)
        second = self.train(logdir, "--epochs", 100000, "--resume")
        self.assert_refused(second, "cannot be locked for this run", f"process {process.pid} on",
                            "--suffix")
        process.kill()
        process.communicate()
        third = self.train(logdir, "--epochs", 100000, "--resume", "--max_hours", 1 / 3600)
        self.assertEqual(third.returncode, STOPPED, third.stderr)

    # ---- what may change between runs ----

    def test_settings_that_may_change(self):
        logdir = self.copy_of_stopped("changed")
        folder = run_files.run_folder(logdir)
        folder.rename(folder.with_name(folder.name.replace("epoches=4", "epoches=5")))
        result = self.train(logdir, "--resume", "--epochs", 5, "--num_workers", 2, "--keep", 1,
                            "--checkpoint_minutes", 1, "--max_hours", 9)
        self.assertEqual(result.returncode, 0, result.stderr)
        state = run_files.state_of(run_files.run_folder(logdir))
        self.assertEqual(state["metrics"][:4], self.expected["metrics"])
        self.assertEqual(len(state["metrics"]), 5)
        self.assertNotIn("rounded differently", result.stderr)

    def test_changed_rounding_is_told(self):
        """Threads round; by default there is one a core, so another machine's cores do."""
        for number, threads in ((2, 2), (0, len(os.sched_getaffinity(0)))):
            with self.subTest(number=number):
                result = self.train(self.copy_of_stopped(f"threads-{number}"), "--resume", "--epochs", 4,
                                    "--threads", number)
                self.assertEqual(result.returncode, 0, result.stderr)
                told = re.search(f'device "(.+), {threads} threads" instead of "\\1, 1 thread": from here on results '
                                 "are rounded differently", result.stderr)
                self.assertEqual(told is not None, threads > 1, result.stderr)

    def resume_as_from(self, device):
        """What is said where the checkpoint names this device. (Without a checksum none is compared.)"""
        logdir = self.copy_of_stopped("device-" + device.replace(", ", "-"))
        path = run_files.run_folder(logdir) / "checkpoint.safetensors"
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8:8 + length])
        own = header["__metadata__"]["rodeo.device"]
        header["__metadata__"]["rodeo.device"] = device
        del header["__metadata__"]["rodeo.checksum"]
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length:])
        result = self.train(logdir, "--resume", "--epochs", 4)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(own, "^cpu, .+, 1 thread$")
        return [line for line in result.stderr.splitlines() if "rounded differently" in line], own

    def test_another_device_is_told(self):
        lines, own = self.resume_as_from("cpu, No processor, 1 thread")
        self.assertEqual(len(lines), 1)
        self.assertIn(f'The run goes on with the device "{own}" instead of "cpu, No processor, 1 thread"', lines[0])
        lines, own = self.resume_as_from("cuda")
        self.assertIn(f'the device "{own}" instead of "cuda"', lines[0])
        for older in ("cpu", ""):
            self.assertEqual(self.resume_as_from(older)[0], [])

    def test_pretrained_weights_that_come_too_late_are_told(self):
        logdir = self.copy_of_stopped("late-weights")
        folder = run_files.run_folder(logdir)
        for last in (3, 4):
            folder = folder.rename(folder.with_name(re.sub("epoches=.", f"epoches={last}", folder.name)))
            result = self.train(logdir, "--resume", "--epochs", last, "--pretrained", "weights.pth")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("warning: --pretrained weights.pth does not count", result.stderr)
            self.assertIn("it began with --pretrained auto", result.stderr)
            self.assertIn('pretrained: "auto"\n', (folder / "config.yaml").read_text())
        self.assert_equals_whole(logdir)

    def test_settings_that_may_not_change(self):
        logdir = self.copy_of_stopped("fixed")
        folder = run_files.run_folder(logdir)
        before = (folder / "checkpoint.safetensors").read_bytes()
        folder.rename(folder.with_name(folder.name.replace("batch_size=4", "batch_size=6")))
        result = self.train(logdir, "--resume", "--epochs", 4, "--batch_size", 6)
        self.assert_refused(result, "batch_size 4, this one 6", "counted in batches", "--suffix")
        folder = run_files.run_folder(logdir)
        folder.rename(folder.with_name(folder.name.replace("batch_size=6", "batch_size=4")))
        result = self.train(logdir, "--resume", "--epochs", 4, "--arch_width", 8)
        self.assert_refused(result, "arch_width 4, this one 8", "another network")
        folder = run_files.run_folder(logdir)
        self.assertEqual((folder / "checkpoint.safetensors").read_bytes(), before)

    def test_other_data_is_refused(self):
        logdir = self.copy_of_stopped("other-data")
        data = self.folder / "shorter"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        lists = next(data.glob("ROD/*.txt"))
        lists.write_text("".join(lists.read_text().splitlines(True)[:-1]))
        self.assert_refused(self.train(logdir, "--resume", "--epochs", 4, data=data),
                            "lists of pictures are not those", "--suffix")
        lists = next(data.glob("synROD/*train1.txt"))
        lines = lists.read_text().splitlines(True)
        lists.write_text("".join(line for line in lines if not line.strip().endswith(" 2")))
        for path in (next(data.glob("ROD/*.txt")), next(data.glob("synROD/*test1.txt"))):
            path.write_text("".join(line for line in path.read_text().splitlines(True)
                                    if not line.strip().endswith(" 2")))
        self.assert_refused(self.train(logdir, "--resume", "--epochs", 4, data=data),
                            "trained on 3 classes, the data has 2")

    def test_gaps_between_labels_are_told(self):
        data = self.folder / "slip"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        lists = next(data.glob("synROD/*train1.txt"))
        first, rest = lists.read_text().split("\n", 1)
        lists.write_text(first.rsplit(" ", 1)[0] + " 470\n" + rest)
        packed = subprocess.run([BUILD / "pack", "--data_root", data, "--image_size", "72"],
                                capture_output=True, text=True, check=False)
        trained = self.train(self.folder / "slip-log", "--epochs", 1, data=data)
        for result in (packed, trained):
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stderr.count("of the labels 0 to 470"), 1, result.stderr)

    def test_another_number_of_epochs_is_pointed_at(self):
        logdir = self.copy_of_stopped("longer")
        result = self.train(logdir, "--resume", "--epochs", 1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("epoches=4", result.stderr)
        self.assertIn("another number of epochs", result.stderr)

    def test_a_checkpoint_out_of_reach_is_no_start(self):
        """On a drive that is not there now, behind a link: it must be neither passed over nor replaced."""
        logdir = self.copy_of_stopped("out-of-reach")
        folder = run_files.run_folder(logdir)
        drive = self.folder / "drive"
        away = self.folder / "away"
        drive.mkdir()
        for path in list(folder.glob("checkpoint.safetensors*")):
            shutil.move(path, drive)
            path.symlink_to(drive / path.name)
        drive.rename(away)
        metrics = (folder / "metrics.jsonl").read_bytes()
        result = self.train(logdir, "--resume", "--epochs", 4)
        self.assert_refused(result, "can be used", "No such file or directory", "without --resume")
        self.assertEqual((folder / "metrics.jsonl").read_bytes(), metrics)
        away.rename(drive)
        result = self.train(logdir, "--resume", "--epochs", 4)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_equals_whole(logdir)

    def test_a_pytorch_checkpoint_out_of_reach_is_no_start(self):
        logdir = self.copy_of_stopped("pytorch-out-of-reach")
        folder = run_files.run_folder(logdir)
        for path in list(folder.glob("checkpoint.safetensors*")):
            path.unlink()
        (folder / "checkpoint.pth").symlink_to(self.folder / "nowhere")
        self.assert_refused(self.train(logdir, "--resume", "--epochs", 4), "checkpoint.pth",
                            "No such file or directory")

    def test_starting_over_moves_links_to_checkpoints(self):
        logdir = self.copy_of_stopped("links")
        folder = run_files.run_folder(logdir)
        for path in list(folder.glob("checkpoint.safetensors*")):
            path.unlink()
            path.symlink_to(self.folder / "nowhere")
        result = self.train(logdir, "--epochs", 4)
        self.assertEqual(result.returncode, 0, result.stderr)
        aside = list(folder.glob("until-*/checkpoint.safetensors*"))
        self.assertTrue(aside and all(path.is_symlink() for path in aside), aside)
        self.assert_equals_whole(logdir)

    # ---- records ----

    def test_torn_files_are_mended(self):
        logdir = self.copy_of_stopped("torn")
        folder = run_files.run_folder(logdir)
        metrics = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(metrics + '{"epoch": 2, "loss_r')
        with open(folder / "log.txt", "a", encoding="utf-8") as log:
            log.write("half a li")
        events = next(folder.glob("events.*"))
        events.write_bytes(events.read_bytes()[:-7])
        result = self.train(logdir, "--resume", "--epochs", 4)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_equals_whole(logdir)
        self.assertIn("\nhalf a li\n", (folder / "log.txt").read_text())
        python = run_files.tensorboard_python()
        if python:
            whole, ours = run_files.read_scalars(python, [run_files.run_folder(self.whole), folder])
            self.assertEqual(ours, whole)

    def test_lost_records_come_back(self):
        logdir = self.copy_of_stopped("lost")
        folder = run_files.run_folder(logdir)
        for path in (folder / "metrics.jsonl", next(folder.glob("events.*"))):
            path.unlink()
        self.assertEqual(self.train(logdir, "--resume", "--epochs", 4).returncode, 0)
        self.assert_equals_whole(logdir)

    def test_a_pack_that_becomes_shorter_is_told(self):
        cache, logdir = self.folder / "shrinking", self.folder / "shrinking-log"
        arguments = ["--epochs", "4", "--cache_dir", cache]
        process = self.start(logdir, *arguments)
        process.send_signal(signal.SIGSTOP)
        pack = cache / "ROD-72.pack"
        with open(pack, "r+b") as file:
            file.truncate(4096)
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate()
        self.assertEqual(process.returncode, 1, stderr)
        self.assertIn("pack", stderr.strip().splitlines()[-1])
        self.assertEqual(self.train(logdir, *arguments, "--resume").returncode, 0)
        self.assert_equals_whole(logdir)

    # ---- numbers that go wrong ----

    def test_a_loss_that_is_no_number_ends_the_run(self):
        logdir = self.folder / "nan"
        result = self.train(logdir, "--epochs", 3, "--lr", "1e12", "--checkpoint_minutes", 0)
        self.assert_refused(result, "of epoch 1: the loss is not a finite number (classification",
                            "entropy", "rotation on the source", "last good checkpoint", "bad-step.txt")
        folder = run_files.run_folder(logdir)
        lines = (folder / "bad-step.txt").read_text().splitlines()
        pairs = [line.split("\t") for line in lines[4:]]
        self.assertEqual(len(pairs), 16)
        self.assertEqual([pair[0] for pair in pairs[::4]],
                         ["source", "target", "source rotated", "target rotated"])
        for pair in pairs:
            self.assertTrue(pathlib.Path(pair[7]).is_file() and pathlib.Path(pair[8]).is_file(), pair)
        again = self.train(logdir, "--epochs", 3, "--lr", "1e12", "--resume")
        self.assert_refused(again, result.stderr.strip().splitlines()[-1].split(":")[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
