"""Takes an HDF5 file apart, as a program of its own: `python h5_child.py FILE CPU_SECONDS MEMORY_BYTES > OUTPUT`.

HDF5's library runs in circles for ever on some damaged files (one changed byte is enough), and no exception ends that.
Here it is alone, with limits of time and memory, and its end is one line in `keras_h5`. Imports nothing of tfdet.

Output: 8 bytes, the length of the JSON after them; the JSON, {"error": text} or a list of [name, dtype, shape]; the
arrays' bytes in that order.
"""

import json
import os
import resource
import struct
import sys
from typing import BinaryIO

_KINDS = "fiub"
_LEFT_OUT = ("optimizer/", "optimizer_weights/")
MAX_EXPANSION, EXPANSION_FREE, MAX_TENSORS = 32, 64 << 20, 1 << 15
"""As in `file_bytes`, which this program cannot import."""


class _Refused(Exception):
    """What is wrong with the file, in words."""


def take_apart(path: str, output: BinaryIO) -> None:
    """Writes the arrays of the file at `path`; raises whatever h5py does."""
    import h5py
    import numpy as np

    with h5py.File(path, "r") as file:
        found = _datasets(file)
        for name, dataset in found.items():
            if dataset.is_virtual or dataset.external:
                raise _Refused(f"{name} lies in another file; save the weights in one")
        expanded = sum(dataset.size * dataset.dtype.itemsize for dataset in found.values())
        if expanded > MAX_EXPANSION * os.path.getsize(path) + EXPANSION_FREE:
            raise _Refused(f"it claims to hold {expanded} bytes in a file of {os.path.getsize(path)}")
        listed = [
            [
                _readable(file, name),
                "bfloat16" if dataset.attrs.get("dtype") == "bfloat16" else dataset.dtype.newbyteorder("<").str,
                list(dataset.shape),
            ]
            for name, dataset in found.items()
        ]
        header = json.dumps(listed).encode()
        output.write(struct.pack("<Q", len(header)) + header)
        for (_, kind, _), dataset in zip(listed, found.values()):
            values = dataset[()]
            if kind != "bfloat16":
                values = values.astype(kind, copy=False)
            output.write(np.ascontiguousarray(values).data)


def _datasets(file) -> dict:
    """The numeric datasets of the file itself: links are not followed, text is left out, the optimizer too."""
    import h5py

    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and item.shape is not None and not name.startswith(_LEFT_OUT):
            # Keras writes bfloat16 as numbers of 2 bytes without a type, and says so beside.
            if item.dtype.kind in _KINDS or item.attrs.get("dtype") == "bfloat16":
                found[name] = item
                if len(found) > MAX_TENSORS:
                    raise _Refused(f"more than the {MAX_TENSORS} tensors that are read")

    file.visititems(visit)
    return found


def _readable(file, name: str) -> str:
    """`backbone/stages/stage/units/unit_1/conv1/vars/0` -> `backbone/stage1/unit2/conv1/0`, by the names beside."""
    parts = name.split("/")
    if len(parts) < 3 or parts[-2] != "vars" or not parts[-1].isdigit():
        return name
    names = []
    for end in range(1, len(parts) - 1):
        beside = file.get("/".join(parts[:end]) + "/vars")
        label = beside.attrs.get("name") if beside is not None else None
        if isinstance(label, str):
            names.append(label)
    return "/".join([*names, parts[-1]]) if names else name


def _main(path: str, seconds: str, memory: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = sys.stdout.buffer
    try:
        take_apart(path, output)
    except Exception as error:  # h5py passes on whatever HDF5 finds wrong, as one of a dozen types
        text = str(error) if isinstance(error, _Refused) else (str(error).splitlines() or [type(error).__name__])[0]
        header = json.dumps({"error": text}).encode()
        output.seek(0)
        output.truncate()
        output.write(struct.pack("<Q", len(header)) + header)
    output.flush()


if __name__ == "__main__":
    sys.path[:1] = []  # this folder has modules named like others', safetensors for one
    _main(*sys.argv[1:])
