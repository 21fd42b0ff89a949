"""Whole runs of the training program on a small generated data set: what a user sees and what is left on disk.

Usage: test_runs.py BUILD_FOLDER. Needs Python's standard library only.
"""
import json
import os
import re
import shutil
import subprocess
import unittest

from run_files import read_metrics, read_safetensors, read_scalars, tensorboard_python
from run_fixture import BUILD, SMALL, RunFixture, call, limit_file_size

STDOUT_LINES = ["Training accuracy (Classification)", "Validation source accuracy (Classification)",
                "Validation source rotation accuracy", "Validation target rotation accuracy",
                "Evaluation Target classification accuracy"]
# In the order in which they are written, each with its key in metrics.jsonl.
TAGS = {"Train/feature_std": "feature_std", "Loss/train_cls": "last_loss_rec", "Loss/val_cls": "source_loss",
        "Accuracy/train_cls": "train_accuracy", "Accuracy/val_cls": "source_accuracy",
        "Loss/rot_train_source": "last_loss_rot_source", "Loss/rot_train_target": "last_loss_rot_target",
        "Loss/rot_val_source": "source_rotation_loss", "Loss/rot_val_target": "target_rotation_loss",
        "Accuracy/rot_val_source": "source_rotation_accuracy",
        "Accuracy/rot_val_target": "target_rotation_accuracy",
        "Loss/eval_target": "target_loss", "Accuracy/eval_target": "target_accuracy"}


class RunTest(RunFixture):
    # ---- what a run prints and leaves ----

    def test_standard_output_is_the_reference_s(self):
        lines = self.undisturbed.stdout.splitlines()
        self.assertEqual(lines[0], "Run: " + self.run_folder(self.whole).name)
        self.assertEqual(lines[1], "WARNING! CUDA not available")
        expected = []
        for epoch in (1, 2, 3):
            expected += [f"Epoch {epoch} / 3"]
            expected += [f"Epoch: {epoch} - {text}: " for text in STDOUT_LINES]
        # A checkpoint is announced when it is on the disk, which may be while training goes on.
        saved = [i for i, line in enumerate(lines) if line == "Checkpoint saved"]
        tested = [i for i, line in enumerate(lines) if STDOUT_LINES[-1] in line]
        self.assertGreaterEqual(len(saved), 1)
        self.assertEqual(saved[-1], len(lines) - 1)
        for i, place in enumerate(saved[:-1]):
            self.assertGreater(place, tested[i])
        lines = [line for line in lines if line != "Checkpoint saved"]
        self.assertEqual(len(lines), 2 + len(expected))
        for line, start in zip(lines[2:], expected):
            self.assertTrue(line.startswith(start), line)
            if start.endswith(": "):
                number = line[len(start):]
                self.assertEqual(repr(float(number)), number)

    def test_run_folder_is_complete(self):
        folder = self.run_folder(self.whole)
        names = {path.name for path in folder.iterdir()}
        self.assertLessEqual({"checkpoint.safetensors", "config.yaml", "metrics.jsonl", "log.txt"}, names)
        self.assertEqual([name for name in names if name.endswith(".tmp")], [])
        metrics = read_metrics(folder)
        self.assertEqual([m["epoch"] for m in metrics], [1, 2, 3])
        for key in ("loss_rec", "loss_ent", "loss_rot", "lr", "source_accuracy",
                    "source_rotation_accuracy", "target_rotation_accuracy", "target_accuracy",
                    "seconds_train", "seconds_eval", "pairs_per_second"):
            self.assertIsInstance(metrics[-1][key], float, key)
        last = [line for line in self.undisturbed.stdout.splitlines() if "Evaluation Target" in line][-1]
        self.assertEqual(float(last.rsplit(" ", 1)[1]), metrics[-1]["target_accuracy"])
        log = (folder / "log.txt").read_text()
        for line in self.undisturbed.stdout.splitlines()[1:]:
            self.assertIn(line + "\n", log)

    def read_scalars(self, folder):
        """{tag: [[step, value], ...]} as the real TensorBoard reads them."""
        python = tensorboard_python()
        if not python:
            self.skipTest("no reference environment")
        return read_scalars(python, [folder])[0]

    def test_events_are_what_tensorboard_reads(self):
        folder = self.run_folder(self.whole)
        scalars = self.read_scalars(folder)
        metrics = read_metrics(folder)
        for tag, key in TAGS.items():
            self.assertEqual([step for step, _ in scalars[tag]], [1, 2, 3])
            for (_, value), m in zip(scalars[tag], metrics):
                self.assertAlmostEqual(value, m[key], places=5)

    def written_tags(self, logdir):
        """The reference's tags in the order of the events file."""
        events, = self.run_folder(logdir).glob("events.out.tfevents.*")
        return [tag.decode() for tag in re.findall(rb"(?:Train|Loss|Accuracy)/[a-z_]+", events.read_bytes())]

    def test_events_come_in_the_reference_s_order(self):
        self.assertEqual(self.written_tags(self.whole), 3 * list(TAGS))

    def test_epoch_logged_but_not_saved_is_logged_once(self):
        logdir = self.folder / "logged"
        failed = self.train(logdir, "--resume", preexec_fn=limit_file_size(100_000))
        self.assert_one_line(failed, "checkpoint.safetensors")
        self.assertEqual(self.train(logdir, "--resume").returncode, 0)
        folder = self.run_folder(logdir)
        scalars = self.read_scalars(folder)
        self.assertEqual([step for step, _ in scalars["Accuracy/eval_target"]], [1, 2, 3])
        self.assertEqual(len((folder / "metrics.jsonl").read_text().splitlines()), 3)

    def test_source_only_has_no_rotation(self):
        logdir = self.folder / "source-only"
        result = self.train(logdir, "--weight_rot", 0, "--weight_ent", 0, "--epochs", 1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("rotation", result.stdout)
        metrics = json.loads((self.run_folder(logdir) / "metrics.jsonl").read_text())
        self.assertIsNone(metrics["loss_rot"])
        self.assertIsNone(metrics["target_rotation_accuracy"])
        self.assertEqual(self.written_tags(logdir), [tag for tag in TAGS if "rot" not in tag])

    def test_sanitycheck_prints_the_running_loss(self):
        result = self.train(self.folder / "sanity", "--sanitycheck", "--epochs", 1)
        losses = [line for line in result.stdout.splitlines() if line.replace(".", "").isdigit()]
        self.assertEqual(len(losses), 36 // 4)

    def test_smallset_trains(self):
        logdir = self.folder / "smallset"
        result = self.train(logdir, "--smallset", "--epochs", 1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("dataset=smallset", self.run_folder(logdir).name)

    def test_hb_data_sets_train(self):
        data = self.folder / "hb"
        source, target = data / "HB_Syn_crops_square", data / "HB_val_crops_square"
        shutil.copytree(self.data / "synROD", source)
        for split in ("train1", "test1"):
            (source / f"synARID_50k-split_sync_{split}.txt").rename(
                source / f"HB_Syn_crops_25k-split_sync_{split}.txt")
        shutil.copytree(source, target)
        (target / "HB_Syn_crops_25k-split_sync_train1.txt").rename(
            target / "HB_val_crops_25k-split_sync.txt")
        logdir = self.folder / "hb-log"
        result = self.train(logdir, "--source", "synHB", "--target", "valHB", "--epochs", 1, data=data)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("dataset=valHB-synHB", self.run_folder(logdir).name)

    # ---- resuming ----

    def test_resumed_runs_end_with_the_same_bytes(self):
        _, expected = read_safetensors(self.run_folder(self.whole) / "checkpoint.safetensors")
        for epoch in (1, 2):
            with self.subTest(interrupted_after=epoch):
                logdir = self.folder / f"interrupted-{epoch}"
                self.kill_after_epoch(logdir, epoch)
                resumed = self.train(logdir, "--resume")
                self.assertEqual(resumed.returncode, 0, resumed.stderr)
                self.assertRegex(resumed.stdout, r"Loaded checkpoint saved at \d{4}-\d\d-\d\d "
                                                 rf"\d\d:\d\d:\d\d\. Resuming from epoch {epoch}\n")
                folder = self.run_folder(logdir)
                _, weights = read_safetensors(folder / "checkpoint.safetensors")
                self.assertEqual(set(weights), set(expected))
                for name, value in expected.items():
                    self.assertEqual(weights[name], value, name)
                metrics = read_metrics(folder)
                self.assertEqual([m["epoch"] for m in metrics], [1, 2, 3])

    def kill_after_epoch(self, logdir, epoch):
        """SIGKILL as soon as the checkpoint of this epoch is announced."""
        command = [BUILD / "train", "--data_root", self.data, "--logdir", logdir, *SMALL]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True) as process:
            for line in process.stdout:
                epoch -= line == "Checkpoint saved\n"
                if epoch == 0:
                    process.kill()
                    break

    def test_resume_without_checkpoint_starts_and_says_so(self):
        result = self.train(self.folder / "nothing", "--resume", "--epochs", 1)
        self.assertEqual(result.returncode, 0)
        self.assertIn("No checkpoint in", result.stderr)
        self.assertIn("Epoch 1 / 1", result.stdout)

    def test_finished_run_is_done(self):
        logdir = self.copy_of_whole("finished")
        before = (self.run_folder(logdir) / "checkpoint.safetensors").read_bytes()
        result = self.train(logdir, "--resume")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("Epoch 4", result.stdout)
        self.assertIn("done already", result.stderr)
        self.assertEqual((self.run_folder(logdir) / "checkpoint.safetensors").read_bytes(), before)

    def test_starting_over_keeps_the_earlier_run(self):
        logdir = self.copy_of_whole("over")
        checkpoint = (self.run_folder(logdir) / "checkpoint.safetensors").read_bytes()
        result = self.train(logdir)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("starting over", result.stderr)
        kept = list(self.run_folder(logdir).glob("until-*/checkpoint.safetensors"))
        self.assertEqual([path.read_bytes() for path in kept], [checkpoint])

    def test_a_run_without_a_checkpoint_is_kept_too(self):
        """Who needs room deletes the checkpoints of a finished run and keeps its records, or its best weights."""
        logdir = self.copy_of_whole("records")
        folder = self.run_folder(logdir)
        metrics = (folder / "metrics.jsonl").read_bytes()
        for path in list(folder.glob("checkpoint.safetensors*")):
            path.unlink()
        result = self.train(logdir, "--resume", "--epochs", 3)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("holds an earlier run without a checkpoint to go on from: starting over", result.stderr)
        aside = next(folder.glob("until-*"))
        self.assertEqual((aside / "metrics.jsonl").read_bytes(), metrics)
        for path in (*folder.glob("checkpoint.safetensors*"), folder / "metrics.jsonl"):
            path.unlink()
        (folder / "weights-epoch-0003.safetensors").write_bytes(b"alone")
        self.assertEqual(self.train(logdir, "--epochs", 3).returncode, 0)
        kept = [path.read_bytes() for path in folder.glob("until-*/weights-epoch-0003.safetensors")]
        self.assertEqual(kept, [b"alone"])
        self.assertEqual(len(list(folder.glob("until-*"))), 2)

    def test_a_start_that_fails_leaves_the_earlier_run(self):
        logdir = self.copy_of_whole("failed-start")
        folder = self.run_folder(logdir)
        wrong = self.folder / "no-weights.safetensors"
        wrong.write_text("no weights")
        few = self.folder / "few"
        shutil.copytree(self.data, few, ignore=shutil.ignore_patterns("rodeo-cache"))
        target = few / "ROD" / "wrgbd_40k-split_sync.txt"
        target.write_text("".join(target.read_text().splitlines(keepends=True)[:3]))
        before = {path.name for path in folder.iterdir()}
        for data, arguments, parts in ((None, ["--pretrained", wrong], ["--pretrained", wrong]),
                                       (few, [], ["ROD", "batch_size"])):
            with self.subTest(arguments=arguments):
                self.assert_one_line(self.train(logdir, *arguments, data=data), *parts)
                self.assertEqual({path.name for path in folder.iterdir()}, before)

    # ---- checkpoints that do not fit or are damaged ----

    def test_damaged_checkpoint_falls_back_to_the_one_before(self):
        logdir = self.copy_of_whole("damaged")
        path = self.run_folder(logdir) / "checkpoint.safetensors"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        result = self.train(logdir, "--resume")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("warning: ", result.stderr)
        self.assertIn("damaged", result.stderr)
        self.assertIn("Resuming from epoch 2", result.stdout)
        _, expected = read_safetensors(self.run_folder(self.whole) / "checkpoint.safetensors")
        _, weights = read_safetensors(path)
        self.assertEqual(weights, expected)

    def test_dump_plan_leaves_a_damaged_checkpoint_in_place(self):
        logdir = self.copy_of_whole("dump-damaged")
        folder = self.run_folder(logdir)
        path = folder / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        before = {path.name for path in folder.iterdir()}
        result = self.train(logdir, "--resume", "--dump_plan", self.folder / "dump-damaged-plan", "--steps", 1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("falling back", result.stderr)
        self.assertEqual({path.name for path in folder.iterdir()}, before)

    def test_dump_plan_refuses_paths_that_json_cannot_hold(self):
        place = os.fsencode(self.folder) + b"/caf\xe9"
        os.mkdir(place)
        os.symlink(self.data, place + b"/linked")
        shutil.copytree(os.fsencode(self.data), place + b"/copied")
        for data, fine in (("linked", True), ("copied", False)):
            with self.subTest(data=data):
                result = self.train(self.folder / "no-utf-8", "--dump_plan", f"plan-{data}", "--steps", 1, data=data,
                                    cwd=place, errors="surrogateescape")
                self.assertEqual(os.path.exists(place + f"/plan-{data}/plan.jsonl".encode()), fine)
                if fine:
                    self.assertEqual(result.returncode, 0, result.stderr)
                else:
                    self.assert_one_line(result, os.fsdecode(place) + "/copied/", "the path is not UTF-8")

    def test_two_damaged_checkpoints_are_refused(self):
        logdir = self.copy_of_whole("both-damaged")
        for path in self.run_folder(logdir).glob("checkpoint.safetensors*"):
            path.write_bytes(path.read_bytes()[:-100])
        self.assert_one_line(self.train(logdir, "--resume"), "neither checkpoint can be used")

    def test_other_settings_are_refused(self):
        for option, value, word in (("--seed", 5, "seed"), ("--arch_width", 8, "arch_width"),
                                    ("--crop_size", 68, "crop_size"), ("--dropout_p", 0.1, "dropout_p")):
            with self.subTest(option=option):
                logdir = self.copy_of_whole("other" + option)
                checkpoint = self.run_folder(logdir) / "checkpoint.safetensors"
                before = checkpoint.read_bytes()
                self.assert_one_line(self.train(logdir, "--resume", option, value), word)
                self.assertEqual(checkpoint.read_bytes(), before)

    # ---- everything that can be wrong from outside ----

    def test_wrong_options(self):
        for arguments, parts in ((["--lr", "fast"], ["--lr", "fast"]), (["--nonsense"], ["nonsense"]),
                                 (["--batch_size", "1"], ["batch_size"]),
                                 (["--crop_size", "40"], ["65"])):
            with self.subTest(arguments=arguments):
                self.assert_one_line(self.train(self.folder / "wrong", *arguments), *parts)

    def test_memory_that_does_not_suffice_is_told(self):
        # More than a process can have, whatever the machine.
        result = self.train(self.folder / "huge", "--batch_size", 65536, "--image_size", 4096,
                            "--crop_size", 4096, "--arch_width", 16,
                            env=dict(os.environ, ASAN_OPTIONS="allocator_may_return_null=1"))
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertRegex(result.stderr.splitlines()[-1], "memory does not suffice: .* smaller batch")

    def test_missing_data(self):
        missing = self.folder / "not-there"
        logdir = self.folder / "missing"
        self.assert_one_line(self.train(logdir, data=missing), missing)
        self.assertFalse(logdir.exists())

    def test_missing_pictures_are_named_and_counted(self):
        data = self.folder / "holes"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        removed = sorted(data.glob("ROD/surfnorm-washington/*/*/*.png"))[:7]
        for path in removed:
            path.unlink()
        result = self.train(self.folder / "holes-log", data=data)
        self.assert_one_line(result, "7 of the 72 pictures", "ROD")
        self.assertTrue(any(path.name in result.stderr for path in removed))

    def test_truncated_picture_is_named(self):
        data = self.folder / "cut"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        victim = sorted(data.glob("synROD/*/rgb/*.png"))[5]
        victim.write_bytes(victim.read_bytes()[:200])
        self.assert_one_line(self.train(self.folder / "cut-log", data=data), victim.name)
        self.assertEqual(list(data.glob("rodeo-cache/synROD*")), [])

    def test_logdir_that_cannot_be_written(self):
        blocker = self.folder / "a-file"
        blocker.write_text("")
        self.assert_one_line(self.train(blocker / "logs"), "--logdir", blocker)

    def test_full_disk_is_no_other_process(self):
        result = self.train(self.folder / "no-room", preexec_fn=limit_file_size(0))
        self.assert_one_line(result, "cannot be locked for this run", "run.lock: cannot write: ")

    def test_full_disk_while_checkpointing(self):
        logdir = self.folder / "full"
        self.kill_after_epoch(logdir, 1)
        checkpoint = self.run_folder(logdir) / "checkpoint.safetensors"
        before = checkpoint.read_bytes()
        result = self.train(logdir, "--resume", preexec_fn=limit_file_size(len(before) // 2))
        self.assert_one_line(result, "checkpoint.safetensors")
        self.assertEqual(checkpoint.read_bytes(), before)
        self.assertEqual(list(checkpoint.parent.glob("*.tmp")), [])
        self.assertEqual(self.train(logdir, "--resume").returncode, 0)

    def test_full_disk_while_packing(self):
        data = self.folder / "tight"
        shutil.copytree(self.data, data, ignore=shutil.ignore_patterns("rodeo-cache"))
        result = self.train(self.folder / "tight-log", data=data,
                            preexec_fn=limit_file_size(100_000))
        self.assert_one_line(result, ".pack")
        self.assertEqual(list(data.glob("rodeo-cache/*")), [])

    def test_pretrained_file_is_checked(self):
        wrong = self.folder / "wrong-weights.safetensors"
        shutil.copy(self.run_folder(self.whole) / "checkpoint.safetensors", wrong)
        self.assert_one_line(self.train(self.folder / "pretrained", "--pretrained", wrong),
                             "--pretrained", "conv1.weight")
        cache = self.folder / "cache-without-weights"
        self.assert_one_line(self.train(self.folder / "pretrained", "--pretrained", "nowhere.pth",
                                        "--cache_dir", cache), "--pretrained", "nowhere.pth")
        self.assertFalse(cache.exists(), "packed before the weights were looked for")

    def test_a_resumed_run_needs_no_pretrained_file(self):
        exported = self.folder / "exported-trunks"
        self.assertEqual(call("export", "--checkpoint", self.run_folder(self.whole), "--out",
                              exported).returncode, 0)
        logdir, weights = self.folder / "from-trunk", exported / "rgb_trunk.safetensors"
        begun = self.train(logdir, "--pretrained", weights, "--epochs", 1)
        self.assertIn(f"Both trunks start from {weights}", begun.stderr)
        weights.unlink()
        resumed = self.train(logdir, "--pretrained", weights, "--epochs", 1, "--resume")
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        self.assertIn("Resuming from epoch 1", resumed.stdout)

    def test_networks_that_torchvision_has_not_start_from_random_weights(self):
        self.assertIn("start from random weights: torchvision has none of this width",
                      self.undisturbed.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
