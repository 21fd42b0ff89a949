"""Rodeo and PyTorch exchange weights, checkpoints and predictions, and train alike.

Usage: test_pytorch.py BUILD_FOLDER, with a Python that has PyTorch, torchvision, safetensors, onnx and
onnxruntime. RODEO_TEST_FORMATS_ALONE leaves out what is computed, for a build that computes the same.
"""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
REFERENCE = pathlib.Path(__file__).resolve().parent / "reference"
sys.path.insert(0, str(REFERENCE))

import model
import make_plan  # model has told where it is
import numpy
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.torch import load_file, save_file

ONE_THREAD = dict(os.environ, OMP_NUM_THREADS="1")  # small networks gain nothing from more
SMALL = ["--arch_width", "8", "--image_size", "144", "--crop_size", "130", "--batch_size", "8",
         "--device", "cpu"]
FULL = ["--image_size", "72", "--crop_size", "66", "--batch_size", "2", "--device", "cpu"]


compares_numbers = unittest.skipIf("RODEO_TEST_FORMATS_ALONE" in os.environ, "numbers are left out")


def call(program, *arguments, **options):
    return subprocess.run([BUILD / program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=600, check=False, **options)


def same_bytes(tensor, other):
    return (tensor.dtype == other.dtype and tensor.shape == other.shape and
            tensor.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes())


class PytorchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.manual_seed(1)
        torch.set_num_threads(1)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-pytorch-"))
        cls.data = cls.folder / "data"
        made = call("demo_data", "--out", cls.data, "--classes", 3, "--per_class", 12, "--seed", 3)
        assert made.returncode == 0, made.stderr
        cls.resnet = torchvision.models.resnet18()
        for name, values in cls.resnet.named_buffers():
            if values.is_floating_point():
                values.uniform_(0.5, 2)
            else:
                values.fill_(len(name))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def train(self, *arguments, **options):
        return call("train", "--data_root", self.data, "--logdir", self.folder / "logs", *arguments,
                    **options)

    def assert_fine(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("Sanitizer", result.stderr)

    def assert_one_line(self, result, *parts):
        self.assertEqual(result.returncode, 1, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        for part in parts:
            self.assertIn(part, last)

    def dump(self, name, *arguments, **options):
        """Runs train --dump_plan and returns its folder."""
        folder = self.folder / name
        self.assert_fine(self.train("--dump_plan", folder, *arguments, **options))
        self.assertEqual(sorted(path.name for path in folder.iterdir()),
                         ["final", "initial", "plan.jsonl"])
        return folder

    def replay(self, folder, *arguments):
        result = subprocess.run([sys.executable, REFERENCE / "replay.py", folder, *arguments],
                                capture_output=True, text=True, timeout=600, check=False,
                                env=ONE_THREAD)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("agrees", result.stdout)
        return result.stdout

    # ---- weights in ----

    def test_torchvision_to_rodeo_to_torchvision_keeps_every_byte(self):
        state = self.resnet.state_dict()
        files = {"zip.pth": lambda path: torch.save(state, path),
                 "legacy.pth": lambda path: torch.save(state, path,
                                                       _use_new_zipfile_serialization=False),
                 "wrapped.pth": lambda path: torch.save({"epoch": 3, "model": state}, path),
                 "weights.safetensors": lambda path: save_file(state, path)}
        for name, save in files.items():
            with self.subTest(file=name):
                path = self.folder / name
                save(path)
                plan = self.dump("from-" + name, *FULL, "--pretrained", path, "--steps", 0)
                exported = self.folder / ("exported-" + name)
                self.assert_fine(call("export", "--checkpoint", plan / "initial", "--out", exported))
                for trunk in ("rgb_trunk", "depth_trunk"):
                    back = torchvision.models.resnet18()
                    back.fc = torch.nn.Identity()
                    back.load_state_dict(load_file(exported / f"{trunk}.safetensors"))
                    for key, tensor in back.state_dict().items():
                        self.assertTrue(same_bytes(tensor, state[key]), key)

    def test_torchvision_s_file_is_found_without_an_option(self):
        for number, (variable, inside) in enumerate((("TORCH_HOME", "hub/checkpoints"),
                                                     ("XDG_CACHE_HOME", "torch/hub/checkpoints"),
                                                     ("HOME", ".cache/torch/hub/checkpoints"))):
            with self.subTest(variable=variable):
                home = self.folder / variable
                file = home / inside / "resnet18-f37072fd.pth"
                file.parent.mkdir(parents=True)
                torch.save(self.resnet.state_dict(), file)
                environment = {key: value for key, value in os.environ.items()
                               if key not in ("TORCH_HOME", "XDG_CACHE_HOME", "HOME")}
                environment[variable] = str(home)
                plan = self.dump(f"auto-{number}", *FULL, "--steps", 0, env=environment)
                tensors = load_file(plan / "initial/checkpoint.safetensors")
                self.assertTrue(same_bytes(tensors["depth.layer4.1.conv2.weight"],
                                           self.resnet.state_dict()["layer4.1.conv2.weight"]))
                file.unlink()
                cache = self.folder / f"cache-{number}"
                missing = self.train(*FULL, "--cache_dir", cache, env=environment)
                self.assert_one_line(missing, "--pretrained auto", str(home), "name a file",
                                     "--pretrained none")
                self.assertFalse(cache.exists(), "packed before the weights were looked for")

    def test_what_does_not_fit_is_listed(self):
        state = self.resnet.state_dict()
        del state["conv1.weight"], state["layer2.0.bn1.running_mean"]
        state["bn1.bias"] = torch.zeros(32)
        state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].double()
        state["extra.weight"] = torch.zeros(1)
        path = self.folder / "unfit.pth"
        torch.save(state, path)
        result = self.train(*FULL, "--pretrained", path)
        self.assert_one_line(
            result, "--pretrained", "in 5 tensors", "missing conv1.weight",
            "missing layer2.0.bn1.running_mean", "unknown extra.weight",
            "bn1.bias (F32 [64] wanted, F32 [32] found)",
            "layer1.0.conv1.weight (F32 [64,64,3,3] wanted, F64 [64,64,3,3] found)")

    def test_whole_modules_are_refused(self):
        path = self.folder / "module.pth"
        torch.save(self.resnet, path)
        self.assert_one_line(self.train(*FULL, "--pretrained", path), "module.pth",
                             "torchvision.models.resnet.ResNet", "state_dict()")

    # ---- the PyTorch program's checkpoint ----

    def make_pytorch_run(self, name, *settings):
        """One epoch in PyTorch, saved where --resume looks. Returns arguments, run folder, state."""
        arguments = [*SMALL, *settings, "--suffix", name]
        plan = self.dump(f"{name}-first-epoch", *arguments, "--steps", 36 // 8)
        started = self.train(*arguments, "--dump_plan", self.folder / f"{name}-name", "--steps", 0)
        run = self.folder / "logs" / started.stdout.splitlines()[0].removeprefix("Run: ")
        self.assertFalse(run.exists())
        run.mkdir(parents=True)
        self.replay(plan, "--yardstick", "--checkpoint", run / "checkpoint.pth", "--epoch", "1")
        return arguments, run, torch.load(run / "checkpoint.pth")

    def test_a_run_begun_in_pytorch_goes_on(self):
        arguments, run, saved = self.make_pytorch_run("begun")
        plan = self.dump("begun-second-epoch", *arguments, "--resume", "--steps", 3)
        tensors = load_file(plan / "initial/checkpoint.safetensors")
        for name, module, optimizer in zip(model.MODULES, saved["modules"], saved["optimizers"]):
            for key, tensor in module.items():
                self.assertTrue(same_bytes(tensors[f"{name}.{key}"], tensor), key)
            parameters = [key for key in module if "running_" not in key and "num_batches" not in key]
            for index, key in enumerate(parameters):
                momentum = optimizer["state"][index]["momentum_buffer"]
                self.assertTrue(same_bytes(tensors[f"momentum.{name}.{key}"], momentum), key)
        first = json.loads((plan / "plan.jsonl").read_text().splitlines()[0])
        self.assertEqual((first["epochs_before"], first["steps_before"]), (1, 36 // 8))
        self.replay(plan, "--yardstick")
        self.assertEqual([path.name for path in run.iterdir()], ["checkpoint.pth"])

    def test_a_run_of_other_settings_is_refused(self):
        arguments, run, saved = self.make_pytorch_run("other", "--epochs", 2)
        for change, part in ((lambda c: c["optimizers"][0]["param_groups"][0].update(lr=0.5), "lr 0.5"),
                             (lambda c: c["optimizers"][2]["param_groups"][0].update(weight_decay=0.5),
                              "weight_decay 0.5"),
                             (lambda c: c["modules"].pop(), "four modules"),
                             (lambda c: c.pop("optimizers"), 'no entry "optimizers"'),
                             (lambda c: c["modules"][3].pop("fc2.bias"),
                              "optimizer 3 has momentum of parameters that its module has not"),
                             (lambda c: c["modules"][0].pop("bn1.running_var"),
                              "missing rgb.bn1.running_var"),
                             (lambda c: c["modules"][2].update({"fc2.bias": torch.zeros(7)}),
                              "main.fc2.bias (F32 [3] wanted, F32 [7] found)")):
            with self.subTest(part=part):
                torch.save(saved, run / "checkpoint.pth")
                changed = torch.load(run / "checkpoint.pth")
                change(changed)
                torch.save(changed, run / "checkpoint.pth")
                self.assert_one_line(self.train(*arguments, "--resume"), "cannot resume",
                                     "checkpoint.pth", part)
        # As the program leaves it that is interrupted while it saves.
        torch.save(saved, run / "checkpoint.pth.old")
        whole = (run / "checkpoint.pth.old").read_bytes()
        (run / "checkpoint.pth").write_bytes(whole[:len(whole) // 2])
        resumed = self.train(*arguments, "--resume")
        self.assert_fine(resumed)
        self.assertIn("checkpoint.pth: ", resumed.stderr)
        self.assertIn("falling back to the checkpoint before it, checkpoint.pth.old", resumed.stderr)
        self.assertRegex(resumed.stdout, r"Loaded checkpoint saved at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\. "
                                         r"Resuming from epoch 1\nEpoch 2 / 2\n")
        self.assertTrue((run / "checkpoint.safetensors").exists())
        again = self.train(*arguments, "--resume")
        self.assertIn("Resuming from epoch 2", again.stdout)

    # ---- the same steps ----

    @compares_numbers
    def test_steps_are_pytorch_s(self):
        for name, arguments in (("dropout", ["--dropout_p", 0.5]), ("plain", ["--dropout_p", 0]),
                                ("source-only", ["--weight_rot", 0, "--weight_ent", 0]),
                                ("entropy-only", ["--weight_rot", 0]),
                                ("rotation-only", ["--weight_ent", 0]),
                                ("weighted", ["--weight_rot", 0.3, "--weight_ent", 0.7, "--lr_mult", 3,
                                              "--momentum", 0.8, "--weight_decay", 0.01]),
                                ("resnet50", ["--arch", "resnet50", "--arch_width", 4])):
            with self.subTest(case=name):
                steps = 4 if name in ("dropout", "plain", "source-only") else 2
                plan = self.dump("steps-" + name, *SMALL, *arguments, "--steps", steps, "--lr", 1e-6)
                self.replay(plan, "--yardstick")
                first = json.loads((plan / "plan.jsonl").read_text().splitlines()[0])
                self.assertEqual(first["rotation_dropout_p"], 0.5)

    # ---- an epoch's numbers ----

    def pairs_of(self, dataset, file):
        """(RGB path, depth path, label) of every line of a list of the demo data."""
        folder = self.data / dataset
        for line in (folder / file).read_text().splitlines():
            path, label = line.split()
            if dataset == "synROD":
                paths = [folder / path.replace("***", modality) for modality in ("rgb", "depth")]
            else:
                path = path.partition("/")[2] if "???" in path.partition("/")[0] else path
                paths = [folder / "rgb-washington" / path.replace("***", "crop"),
                         folder / "surfnorm-washington" / path.replace("***", "depthcrop")]
            yield *paths, int(label)

    def loss_and_accuracy(self, net, settings, test):
        """What PyTorch makes of one test: the mean of its batches' losses, correct / seen."""
        pairs = list(self.pairs_of(test["dataset"], test["list"]))
        losses, correct, seen = [], 0, 0
        for number in range(min(test["batches"], -(-len(pairs) // settings["batch_size"]))):
            drawn = make_plan.plan_batch(0, 0, test["loader"], len(pairs), settings["batch_size"],
                                         settings["image_size"], settings["crop_size"],
                                         test["rotated"], test["rotated"], False, number)
            batch = [{"rgb": pairs[index][0], "depth": pairs[index][1], "turns_rgb": turns_rgb,
                      "turns_depth": turns_depth, "top": top, "left": left, "flip": flip,
                      "label": label if test["rotated"] else pairs[index][2]}
                     for index, label, top, left, flip, turns_rgb, turns_depth in drawn]
            rgb, depth, labels = model.group_tensors(batch, settings, torch.float32)
            with torch.no_grad():
                logits = (net.tell_rotation if test["rotated"] else net.classify)(rgb, depth)
            losses.append(torch.nn.functional.cross_entropy(logits, labels).item())
            correct += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        return numpy.mean(losses), correct / seen

    def check_tests(self, net, settings, cap, metrics):
        """The four tests of an epoch, with at most `cap` batches where they are capped."""
        source = {"dataset": "synROD", "list": "synARID_50k-split_sync_test1.txt", "batches": cap}
        target = {"dataset": "ROD", "list": "wrgbd_40k-split_sync.txt", "batches": cap}
        for name, test in (("source", dict(source, loader=4, rotated=False)),
                           ("source_rotation", dict(source, loader=5, rotated=True)),
                           ("target_rotation", dict(target, loader=6, rotated=True)),
                           ("target", dict(target, loader=7, rotated=False, batches=1000))):
            loss, accuracy = self.loss_and_accuracy(net, settings, test)
            self.assertLess(abs(metrics[name + "_loss"] - loss), 1e-4 * loss, name)
            self.assertEqual(metrics[name + "_accuracy"], accuracy, name)

    def check_training(self, arguments, steps, metrics):
        """What is told of the training steps: PyTorch computes each source batch again, with the weights
        that Rodeo had before that step."""
        correct, seen, losses = 0, 0, []
        for step in range(steps):
            plan = self.dump(f"before-step-{step}", *arguments, "--steps", step + 1)
            before = plan / "initial" if step == 0 else self.folder / f"before-step-{step - 1}/final"
            settings, *lines = map(json.loads, (plan / "plan.jsonl").read_text().splitlines())
            net = model.Net(settings)
            net.load(load_file(before / "checkpoint.safetensors"))
            net.train()
            rgb, depth, labels = model.group_tensors(lines[-1]["groups"][0]["pairs"], settings, torch.float32)
            with torch.no_grad():
                logits = net.classify(rgb, depth)
            losses.append(torch.nn.functional.cross_entropy(logits, labels).item())
            correct += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        told = {name: [line["losses"][name] for line in lines] for name in lines[0]["losses"]}
        for key, expected in (("loss_rec", numpy.mean(losses)), ("last_loss_rec", losses[-1]),
                              ("feature_std", logits.std().item()), ("train_accuracy", correct / seen),
                              ("last_loss_rot_source", told["rot_source"][-1]),
                              ("last_loss_rot_target", told["rot_target"][-1]),
                              ("loss_rot_source", numpy.mean(told["rot_source"])),
                              ("loss_rot_target", numpy.mean(told["rot_target"])),
                              ("loss_ent", numpy.mean(told["ent"]))):
            self.assertLess(abs(metrics[key] - expected), 1e-4 * abs(expected) + 1e-12, key)
        return settings

    @compares_numbers
    def test_an_epoch_s_numbers_are_pytorch_s(self):
        # 9 pairs of the source's test are batches of 8 and 1, 36 of the target four of 8 and one of 4.
        arguments = [*SMALL, "--dropout_p", 0, "--lr", 0.002, "--epochs", 1]
        for cap in (1, 3):
            logdir = self.folder / f"cap-{cap}"
            self.assert_fine(call("train", "--data_root", self.data, "--logdir", logdir, *arguments,
                                  "--test_batches", cap))
            run, = (path for path in logdir.iterdir() if path.is_dir())
            metrics = json.loads((run / "metrics.jsonl").read_text())
            if cap == 1:
                settings = self.check_training(arguments, 36 // 8, metrics)
            net = model.Net(settings)
            net.load(load_file(run / "checkpoint.safetensors"))
            net.train(False)
            self.check_tests(net, settings, cap, metrics)

    @compares_numbers
    def test_a_wrong_step_is_noticed(self):
        plan = self.dump("wrong", *SMALL, "--steps", 2)
        lines = (plan / "plan.jsonl").read_text().splitlines()
        step = json.loads(lines[1])
        pair = step["groups"][2]["pairs"][0]
        pair["turns_rgb"] = (pair["turns_rgb"] + 1) % 4
        lines[1] = json.dumps(step)
        (plan / "plan.jsonl").write_text("\n".join(lines) + "\n")
        result = subprocess.run([sys.executable, REFERENCE / "replay.py", plan, "--yardstick",
                                 "channels_last"],
                                capture_output=True, text=True, check=False, env=ONE_THREAD)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("TOO FAR (rot_source of step 1)", result.stdout)

    def test_a_plan_is_not_replaced_and_leaves_no_run(self):
        arguments = [*SMALL, "--suffix", "untouched", "--steps", 1]
        plan = self.dump("untouched", *arguments)
        before = (plan / "plan.jsonl").read_bytes()
        self.assert_one_line(self.train(*arguments, "--dump_plan", plan), "--dump_plan", "another folder")
        self.assertEqual((plan / "plan.jsonl").read_bytes(), before)
        self.assertEqual(list((self.folder / "logs").glob("*untouched*")), [])

    # ---- weights out ----

    def test_pytorch_and_onnx_give_the_same_answers(self):
        logdir = self.folder / "answers"
        trained = call("train", "--data_root", self.data, "--logdir", logdir, *SMALL, "--epochs", 2,
                       "--lr", 0.003)
        self.assert_fine(trained)
        run, = logdir.iterdir()
        self.assert_fine(call("evaluate", "--data_root", self.data, "--checkpoint", run, "--out",
                              logdir / "evaluation"))
        self.assert_fine(call("export", "--checkpoint", run))
        settings = {"arch": "resnet18", "arch_width": 8, "classes": 3, "image_size": 144,
                    "crop_size": 130, "dropout_p": 0.5, "rotation_dropout_p": 0.5, "seed": "0"}
        net = model.Net(settings)
        for module, name in zip(net.modules, ("rgb_trunk", "depth_trunk", "main_head",
                                              "rotation_head")):
            module.load_state_dict(load_file(run / f"export/{name}.safetensors"))
        net.train(False)
        rgb, depth, labels, predictions = self.read_predictions(logdir / "evaluation", settings)
        with torch.no_grad():
            classes, rotations = net.classify(rgb, depth), net.tell_rotation(rgb, depth)
        self.assertEqual(classes.argmax(1).tolist(), predictions)
        metrics = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        self.assertEqual(metrics["target_accuracy"], float((classes.argmax(1) == labels).sum()) / 36)
        path = str(run / "export/network.onnx")
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = onnxruntime.InferenceSession(path)
        outputs = session.run(["class_logits", "rotation_logits"],
                              {"rgb": rgb.numpy(), "depth": depth.numpy()})
        for found, expected in zip(outputs, (classes.numpy(), rotations.numpy())):
            scale = numpy.abs(expected).max()
            self.assertLess(numpy.abs(found - expected).max(), 1e-4 * scale)

    def read_predictions(self, folder, settings):
        """Pictures through PIL and torchvision in the list's order, labels, Rodeo's predictions."""
        with open(folder / "target-predictions.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = sorted({row["true class"] for row in rows})
        plan = {"top": 7, "left": 7, "flip": 0}
        root = self.data / "ROD"
        with open(root / "wrgbd_40k-split_sync.txt", encoding="utf-8") as file:
            lines = [line.split() for line in file]
        self.assertEqual(len(lines), len(rows))
        pictures = []
        for modality, folder_name, ending in (("rgb", "rgb-washington", "crop"),
                                              ("depth", "surfnorm-washington", "depthcrop")):
            paths = []
            for path, _ in lines:
                parts = path.split("/")
                parts = parts[1:] if "???" in parts[0] else parts
                paths.append(root / folder_name / "/".join(parts).replace("***", ending))
            pictures.append(torch.stack([model.picture(path, settings, plan, 0) for path in paths]))
        labels = torch.tensor([int(label) for _, label in lines])
        return (*pictures, labels, [names.index(row["predicted class"]) for row in rows])

    def test_export_refuses_what_is_no_checkpoint(self):
        path = self.folder / "plain.safetensors"
        save_file({"a": torch.zeros(1)}, path)
        self.assert_one_line(call("export", "--checkpoint", path), "plain.safetensors")
        self.assert_one_line(call("export"), "--checkpoint is needed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
