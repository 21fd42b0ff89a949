"""Writing safetensors files with NumPy alone, for the scripts in this folder."""
import json
import struct

import numpy as np

TYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "uint8": "U8"}


def write(path, tensors):
    """tensors: {name: array}, written in this order."""
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": TYPES[values.dtype.name], "shape": list(values.shape),
                        "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())
