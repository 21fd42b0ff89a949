"""What the tests of whole runs read from a run's folder. Python's standard library only."""
import json
import os
import pathlib
import shutil
import struct
import subprocess

TIMES = {"seconds_train", "seconds_eval", "pairs_per_second", "time"}  # differ from run to run


def read_safetensors(path):
    """Metadata and {name: bytes of the tensor}."""
    content = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    metadata = header.pop("__metadata__", {})
    data = content[8 + length:]
    return metadata, {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}


def read_metrics(folder):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(metrics):
    """The same, without what no two runs have in common."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in metrics]


def run_folder(logdir):
    """The only run below a log folder."""
    runs = [path for path in pathlib.Path(logdir).iterdir() if path.is_dir()]
    assert len(runs) == 1, runs
    return runs[0]


def copy_choices(logdir, other):
    """Lets runs in a new log folder use the algorithms that a GPU was measured to run fastest in another:
    measured again, others may win, which round in other ways."""
    choices = list(logdir.glob("rodeo-*-cudnn-*.txt"))
    assert choices, f"no choices of algorithms in {logdir}"
    other.mkdir(exist_ok=True)
    for path in choices:
        shutil.copy(path, other)


def tensorboard_python():
    """The interpreter that has TensorBoard, None where there is none."""
    python = pathlib.Path(__file__).resolve().parent.parent / ".venv/bin/python"
    if not python.exists() and os.environ.get("RODEO_REQUIRE_REFERENCE") == "1":
        raise AssertionError(f"{python} is missing: run scripts/bootstrap --reference")
    return python if python.exists() else None


def read_scalars(python, folders):
    """For each folder {tag: [[step, value], ...]} as the real TensorBoard reads them."""
    code = ("import sys, json\n"
            "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
            "for folder in sys.argv[1:]:\n"
            "    events = EventAccumulator(folder); events.Reload()\n"
            "    print(json.dumps({t: [[e.step, e.value] for e in events.Scalars(t)]"
            " for t in events.Tags()['scalars']}))\n")
    result = subprocess.run([python, "-c", code, *folders], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def state_of(folder):
    """Everything about a finished run that must not depend on how often it was interrupted."""
    kept = sorted(folder.glob("weights-epoch-*.safetensors"))
    metadata, weights = read_safetensors(folder / "checkpoint.safetensors")
    return {"place": {key: metadata[key] for key in ("rodeo.epoch", "rodeo.step", "rodeo.steps")},
            "weights": weights,
            "kept": {path.name: read_safetensors(path)[1] for path in kept},
            "metrics": without_times(read_metrics(folder))}


def difference(expected, actual):
    """What differs between two results of state_of, "" if nothing does."""
    if expected["place"] != actual["place"]:
        return f"checkpoint of {actual['place']} instead of {expected['place']}"
    if expected["metrics"] != actual["metrics"]:
        return f"metrics: {expected['metrics']} but {actual['metrics']}"
    if set(expected["kept"]) != set(actual["kept"]):
        return f"kept weights: {sorted(expected['kept'])} but {sorted(actual['kept'])}"
    pairs = [("checkpoint", expected["weights"], actual["weights"])]
    pairs += [(name, expected["kept"][name], actual["kept"][name]) for name in expected["kept"]]
    for where, theirs, ours in pairs:
        if set(theirs) != set(ours):
            return f"{where}: other tensors"
        for name, value in theirs.items():
            if ours[name] != value:
                return f"{where}: tensor {name}"
    return ""
