"""Reads what write_events wrote with TensorBoard's own reader and compares every value.

usage: check_events.py WRITE_EVENTS
"""

import struct
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def expect(what, actual, expected):
    if actual != expected:
        sys.exit(f"{what}: read {actual}, expected {expected}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        reader = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
        reader.Reload()

    expect("file version", reader.file_version, 2.0)
    expect("scalar tags", sorted(reader.Tags()["scalars"]),
           ["Accuracy/eval_target", "Loss/train_cls"])
    # Epochs 4 and 5 of the first run were dropped when it was resumed at 4.
    losses = [(e, 1 / e + (100 if e >= 4 else 0)) for e in range(1, 7)]
    accuracies = [(e, 0.0 if e == 2 else 0.1 * e) for e in range(1, 7)]
    for tag, expected in [("Loss/train_cls", losses), ("Accuracy/eval_target", accuracies)]:
        actual = [(event.step, event.value) for event in reader.Scalars(tag)]
        expect(tag, actual, [(step, as_float32(value)) for step, value in expected])

    times = [event.wall_time for event in reader.Scalars("Loss/train_cls")]
    expect("order of times", times, sorted(times))
    shapes = [[dim.size for dim in event.tensor_proto.tensor_shape.dim]
              for event in reader.Tensors("settings/text_summary")]
    expect("texts' shapes", shapes, [[1], [1]])
    texts = [(event.step, event.tensor_proto.string_val[0])
             for event in reader.Tensors("settings/text_summary")]
    expect("texts", texts, [(1, b"**first** run"), (4, b"resumed")])
    plugin = reader.SummaryMetadata("settings/text_summary").plugin_data.plugin_name
    expect("text's plugin", plugin, "text")


if __name__ == "__main__":
    main()
