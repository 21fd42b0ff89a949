"""Files that this program writes must load with the Python package safetensors, and the other way.

usage: check_safetensors.py EXCHANGE_SAFETENSORS
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

# What exchange_safetensors writes.
WRITTEN = {
    "bool": np.array([True, False, True]),
    "u8": np.array([0, 1, 255], np.uint8),
    "i8": np.array([-128, 0, 127], np.int8),
    "i16": np.array([-32768, 5], np.int16),
    "u16": np.array([65535, 6], np.uint16),
    "f16": np.array([1, -2.5], np.float16),
    "i32": np.array([-2**31, 7], np.int32),
    "u32": np.array([2**32 - 1, 8], np.uint32),
    "f32": np.array([[1.5, -2.25, 3e38], [0, 1e-45, 6]], np.float32),
    "f64": np.array([0.1, -1e308]),
    "i64": np.array([-2**63, 9], np.int64),
    "u64": np.array([2**64 - 1, 10], np.uint64),
    "scalar": np.array(42, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "naïve \"name\"": np.array([0, 1, 255], np.uint8),
}
TYPES = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16",
         "float16": "F16", "int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64",
         "int64": "I64", "uint64": "U64"}


def expect(what, actual, expected):
    if actual != expected:
        sys.exit(f"{what}: read {actual}, expected {expected}")


def same_bits(what, actual, expected):
    expect(f"{what}'s type", actual.dtype, expected.dtype)
    expect(f"{what}'s shape", actual.shape, expected.shape)
    expect(what, actual.tobytes(), expected.tobytes())


def check_written(program, path):
    subprocess.run([program, "write", path], check=True)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
        expect("names", set(file.keys()), set(WRITTEN))
        for name, values in WRITTEN.items():
            same_bits(name, file.get_tensor(name), values)
    expect("format", metadata["format"], "pt")
    expect("text", metadata["text"], "a \"b\"\né")


def check_read(program, path):
    tensors = dict(WRITTEN, large=np.arange(5000, dtype=np.float32).reshape(10, 20, 25))
    save_file(tensors, path, metadata={"key": "value \"é\""})
    lines = subprocess.run([program, "list", path], check=True, capture_output=True,
                           encoding="utf-8").stdout.splitlines()
    expect("metadata", lines[0], "metadata key value \"é\"")
    expected = [f"{name} {TYPES[str(values.dtype)]} [{','.join(map(str, values.shape))}] "
                f"{values.tobytes().hex()}" for name, values in tensors.items()]
    expect("tensors", sorted(lines[1:]), sorted(expected))


def check_without_metadata(program, path):
    save_file({"x": np.array([1, 2], np.float32)}, path)
    lines = subprocess.run([program, "list", path], check=True, capture_output=True,
                           encoding="utf-8").stdout.splitlines()
    expect("lines", lines, ["metadata key absent", "x F32 [2] 0000803f00000040"])


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.safetensors")
        check_written(program, path)
        check_read(program, path)
        check_without_metadata(program, path)


if __name__ == "__main__":
    main()
