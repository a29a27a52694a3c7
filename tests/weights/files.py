"""Writes weight files in the formats that the readers read, without the programs that write them."""

from __future__ import annotations

import collections
import contextlib
import json
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

_STORAGES = {
    "f4": "FloatStorage",
    "f8": "DoubleStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "u2": "BFloat16Storage",
}


@contextlib.contextmanager
def _fake_torch():
    """Modules of PyTorch's names: pickle writes a class by its name only where an import finds it."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in _STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(inner, name, function)
    torch._utils = inner
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": inner})
    try:
        yield torch
    finally:
        for name, module in saved.items():
            sys.modules.pop(name) if module is None else sys.modules.__setitem__(name, module)


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class _Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.parts = storage, offset, shape, strides


def _torch_pickler(stream, torch, legacy):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, _Storage):
                return None
            kind = getattr(torch, _STORAGES[value.array.dtype.str[1:]])
            reference = ("storage", kind, value.key, "cpu", value.array.size)
            return (*reference, None) if legacy else reference

        def reducer_override(self, value):
            if not isinstance(value, _Tensor):
                return NotImplemented
            return torch._utils._rebuild_tensor_v2, (*value.parts, False, collections.OrderedDict())

    return Pickler(stream, protocol=2)


def _tensors(arrays):
    """Tensors of arrays: one storage each, the strides those of the array; an array's own base is shared."""
    storages, tensors = {}, collections.OrderedDict()
    for name, array in arrays.items():
        base = array.base if isinstance(array.base, np.ndarray) else array
        storage = storages.setdefault(id(base), _Storage(str(len(storages)), base.reshape(-1)))
        offset = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // array.itemsize
        strides = tuple(s // array.itemsize for s in array.strides)
        tensors[name] = _Tensor(storage, offset, array.shape, strides)
    tensors._metadata = {"": {"version": 1}}
    return tensors, [*storages.values()]


def write_torch(path, arrays, wrap=lambda tensors: tensors):
    """As torch.save since 1.6: a zip. `wrap` puts the table of tensors into what a program saves around it."""
    tensors, storages = _tensors(arrays)
    with _fake_torch() as torch, zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data.pkl", "w") as stream:
            _torch_pickler(stream, torch, False).dump(wrap(tensors))
        archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")


def write_torch_legacy(path, arrays):
    """As torch.save before 1.6: pickles one behind the other, then the storages."""
    tensors, storages = _tensors(arrays)
    with _fake_torch() as torch, open(path, "wb") as stream:
        pickle.dump(0x1950A86A20F9469CFC6C, stream, protocol=2)
        pickle.dump(1001, stream, protocol=2)
        pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, stream, protocol=2)
        _torch_pickler(stream, torch, True).dump(tensors)
        pickle.dump([storage.key for storage in storages], stream, protocol=2)
        for storage in storages:
            stream.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())


def write_safetensors(path, arrays, dtypes=None):
    """A header in JSON and the bytes. `dtypes` names types that are not the arrays' own, such as BF16 for uint16."""
    codes = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "i4": "I32", "u1": "U8", "u2": "U16", "b1": "BOOL"}
    header, parts, end = {"__metadata__": {"format": "pt"}}, [], 0
    for name, array in arrays.items():
        code = (dtypes or {}).get(name) or codes[array.dtype.str[1:]]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        parts.append(array.tobytes())
        end += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def write_pkl(path, arrays, protocol=4):
    """As Detectron2's model zoo: numpy arrays in a pickle."""
    with open(path, "wb") as stream:
        pickle.dump({"model": dict(arrays), "__author__": "Detectron2 Model Zoo"}, stream, protocol=protocol)


def python2_pickle(arrays):
    """A pickle of protocol 2 as Python 2 wrote it, `{"blobs": {...}}`, whose texts are byte strings (opcode T)."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    out = b"\x80\x02}" + text(b"blobs") + b"}"
    for name, array in arrays.items():
        out += text(name.encode())
        out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        out += b"(K\x01(" + b"".join(b"J" + struct.pack("<i", d) for d in array.shape) + b"t"
        out += b"cnumpy\ndtype\nU\x02" + array.dtype.str[1:].encode() + b"K\x00K\x01\x87R"
        out += b"(K\x03U\x01" + array.dtype.str[:1].encode() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        out += b"\x89" + text(array.tobytes()) + b"tbs"
    return out + b"s."
