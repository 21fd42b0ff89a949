"""Files of torch.save for tests/test_pth.c: sound ones in all formats, and ones that must be refused.

Run with a Python that has PyTorch and safetensors; writes into pth/ beside itself:
  zip.pth, legacy.pth  one state dict with every type of tensor, strides, offsets and shared storages
  newer.pth            the same with what PyTorch 2 adds: byteorder, alignment, serialization id
  expected.safetensors the same tensors as they must be read
  bad_*.pth            what test_pth.c must see refused, each for the reason in its name
"""
import io
import os
import pickle
import sys
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pth")


def place(name):
    return os.path.join(FOLDER, name)


def state_dict():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    shared = torch.linspace(-1, 1, 10)
    tensors = OrderedDict(
        f32=base, transposed=base.t(), part=base[1:3, 2:5], f64=torch.tensor([0.1, -1e300]).double(),
        f16=torch.tensor([1.0, -2.5]).half(), bf16=torch.tensor([1.0, 3e38]).bfloat16(),
        i64=torch.tensor([-2**63, 9]), i32=torch.tensor([-2**31, 7], dtype=torch.int32),
        i16=torch.tensor([-32768, 5], dtype=torch.int16), i8=torch.tensor([-128, 127], dtype=torch.int8),
        u8=torch.tensor([0, 255], dtype=torch.uint8), boolean=torch.tensor([True, False, True]),
        scalar=torch.tensor(42), empty=torch.zeros(0, 3), head=shared[:4], tail=shared[4:], again=shared,
        channels_last=torch.arange(48.0).reshape(2, 3, 2, 4).contiguous(memory_format=torch.channels_last),
        parameter=torch.nn.Parameter(torch.tensor([0.5, -0.5])))
    tensors._metadata = OrderedDict([("", {"version": 1}), ("layer", {"version": 2})])
    return tensors


def repack(source, target, change=lambda name, data: data, compression=zipfile.ZIP_STORED, extra=()):
    """Copies a zip file member by member."""
    with zipfile.ZipFile(place(source)) as old, zipfile.ZipFile(place(target), "w", compression) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr("archive/" + name.split("/", 1)[1], data)
        for name, data in extra:
            new.writestr("archive/" + name, data)


def write_pickle_as(target, content):
    """A file of the zip format whose pickle is `content`."""
    with zipfile.ZipFile(place(target), "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/data/0", bytes(4))
        file.writestr("archive/version", "3\n")


class Command:
    def __reduce__(self):
        return os.system, ("true",)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    tensors = state_dict()
    torch.save(tensors, place("zip.pth"))
    torch.save(tensors, place("legacy.pth"), _use_new_zipfile_serialization=False)
    repack("zip.pth", "newer.pth",
           extra=[("byteorder", "little"), (".format_version", "1"), (".storage_alignment", "64"),
                  (".data/serialization_id", "0636067431208440125100104890158036213740")])
    save_file({name: tensor.detach().clone(memory_format=torch.contiguous_format)
               for name, tensor in tensors.items()}, place("expected.safetensors"))

    def larger_claim(name, data):
        """The tensor `f32` then has 4 x 7 elements of its storage's 24."""
        if name.endswith("data.pkl"):
            assert data.count(b"K\x04K\x06\x86") == 1
            data = data.replace(b"K\x04K\x06\x86", b"K\x04K\x07\x86")
        return data

    repack("zip.pth", "bad_compressed.pth", compression=zipfile.ZIP_DEFLATED)
    repack("zip.pth", "bad_big_endian.pth", extra=[("byteorder", "big")])
    repack("zip.pth", "bad_short_storage.pth",
           lambda name, data: data[:-1] if name.endswith("data/0") else data)
    repack("zip.pth", "bad_missing_storage.pth",
           lambda name, data: None if name.endswith("data/0") else data)
    repack("zip.pth", "bad_shape.pth", larger_claim)
    repack("zip.pth", "bad_no_pickle.pth",
           lambda name, data: None if name.endswith("data.pkl") else data)
    torch.save({"weight": torch.zeros(2), "run": Command()}, place("bad_command.pth"))
    torch.save({"weight": torch.zeros(2), "accuracy": np.float64(0.5)}, place("bad_numpy.pth"))
    torch.save(torch.nn.Linear(2, 2), place("bad_module.pth"))
    torch.save({"weight": torch.zeros(2), "epoch": 3}, place("bad_not_only_tensors.pth"))
    write_pickle_as("bad_protocol.pth", pickle.dumps({}, protocol=4))
    write_pickle_as("bad_stack.pth", b"\x80\x02}q\x00u.")
    write_pickle_as("bad_memo.pth", b"\x80\x02h\x07.")
    write_pickle_as("bad_twice.pth", torch_pickle_twice())
    with open(place("bad_plain_pickle.pth"), "wb") as file:
        pickle.dump({"weight": [1.0]}, file, protocol=2)
    with tarfile.open(place("bad_tar.pth"), "w", format=tarfile.USTAR_FORMAT) as file:
        file.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    print(f"PyTorch {torch.__version__}, Python {sys.version.split()[0]}: written to {FOLDER}")


def torch_pickle_twice():
    """A dict whose key comes twice, as no Python dict can have it."""
    empty = b"ccollections\nOrderedDict\n)R"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x00\x85K\x01\x85\x89" + empty + b"tR"
    return b"\x80\x02}(" + 2 * (b"X\x01\x00\x00\x00a" + tensor) + b"u."


main()
