"""Saving tensors and state dicts in the safetensors format: a JSON header and raw little-endian numbers, no pickle.

:func:`save_file` and :func:`load_file` are for a flat dict of tensors, readable by every library that knows the
format; :func:`save` and :func:`load` for nested dicts and lists of tensors, numbers and strings, as the state dicts of
modules and optimizers are: their structure is JSON in the file's metadata.  Loading a file runs no code of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracejit.ir.types import (
    DType,
    bfloat16,
    bool_,
    complex64,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)  # fmt: skip

from .locations import at_user_line
from .ops.creation import from_numpy
from .tensor import Tensor

_NAMES: dict[DType, str] = {
    float64: "F64", float32: "F32", float16: "F16", bfloat16: "BF16", int64: "I64", int32: "I32", int16: "I16",
    int8: "I8", uint64: "U64", uint32: "U32", uint16: "U16", uint8: "U8", bool_: "BOOL", complex64: "C64",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_LONGEST_HEADER = 100_000_000
_STRUCTURE = "tracejit.structure"

FilePath = str | os.PathLike[str]


def save_bytes(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The contents of a safetensors file with these tensors (or NumPy arrays), by name.

    >>> import tracejit as tj
    >>> load_bytes(save_bytes({"x": tj.tensor([1.0, 2.0])}))
    {'x': tensor([1., 2.])}
    """
    arrays = {name: _array(name, tensor) for name, tensor in tensors.items()}
    header: dict[str, Any] = {}
    if metadata:
        if not all(isinstance(item, str) for pair in metadata.items() for item in pair):
            raise at_user_line(TypeError("the metadata of a safetensors file must be strings"))
        header["__metadata__"] = dict(metadata)
    # Wide elements first: each array is then aligned to its elements.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    position = 0
    for name in order:
        array = arrays[name]
        end = position + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(_little_endian(arrays[name]) for name in order)])


def load_bytes(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file's contents; ``ValueError`` for what is no such file, or a damaged one."""
    header, start = _read_header(data)
    header.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    expected = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        begin, end = _offsets(name, entry)
        dtype, shape = _type_of_entry(name, entry)
        if begin != expected or end - begin != math.prod(shape) * dtype.itemsize or start + end > len(data):
            raise at_user_line(ValueError(f"safetensors: the offsets of {name!r} do not fit: {entry}"))
        expected = end
        flat = np.frombuffer(data, dtype.newbyteorder("<"), math.prod(shape), start + begin)
        tensors[name] = from_numpy(flat.reshape(shape))
    if start + expected != len(data):
        extra = len(data) - start - expected
        raise at_user_line(ValueError(f"safetensors: {extra} bytes of the file belong to no tensor"))
    return {name: tensors[name] for name in header}


def save_file(tensors: Mapping[str, Any], filename: FilePath, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file; it appears whole or not at all."""
    data = save_bytes(tensors, metadata)
    path = Path(filename)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # what open() would give; mkstemp's is private
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def load_file(filename: FilePath) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name; ``ValueError`` for what is none, or damaged."""
    return load_bytes(Path(filename).read_bytes())


def load_metadata(filename: FilePath) -> dict[str, str]:
    """The strings that a safetensors file holds beside its tensors."""
    with open(filename, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        header, _ = _read_header(start + file.read(min(length, _LONGEST_HEADER)))
    return header.get("__metadata__", {})


def save(content: Any, file: FilePath | BinaryIO) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, strings and None to a safetensors file: its path, or
    what has a ``write`` for bytes.

    A module, an optimizer or a scheduler stands for its ``state_dict()``.

    >>> import tempfile, tracejit as tj
    >>> from tracejit import nn, optim
    >>> model = nn.Linear(2, 1)
    >>> opt = optim.Adam(model.parameters())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(
    ...         {"model": model, "optimizer": opt, "epoch": 3},
    ...         f"{folder}/checkpoint.safetensors",
    ...     )
    ...     saved = load(f"{folder}/checkpoint.safetensors")
    >>> model.load_state_dict(saved["model"])
    <All keys matched successfully>
    >>> opt.load_state_dict(saved["optimizer"])
    >>> saved["epoch"]
    3
    """
    tensors: dict[str, Any] = {}
    structure = _taken_apart(content, "", tensors)
    metadata = {_STRUCTURE: json.dumps(structure)}
    if isinstance(file, str | os.PathLike):
        save_file(tensors, file, metadata)
    else:
        file.write(save_bytes(tensors, metadata))


def load(file: FilePath | BinaryIO) -> Any:
    """What :func:`save` has written; of another safetensors file its tensors by name.

    >>> import io, tracejit as tj
    >>> file = io.BytesIO()
    >>> save([tj.ones(2), "two"], file)
    >>> _ = file.seek(0)
    >>> load(file)
    [tensor([1., 1.]), 'two']
    """
    data = Path(file).read_bytes() if isinstance(file, str | os.PathLike) else file.read()
    structure = _read_header(data)[0].get("__metadata__", {}).get(_STRUCTURE)
    tensors = load_bytes(data)
    return tensors if structure is None else _put_together(json.loads(structure), tensors)


def _array(name: str, tensor: Any) -> np.ndarray:
    if not isinstance(name, str) or name == "__metadata__":
        raise at_user_line(ValueError(f"{name!r} cannot be the name of a tensor in a safetensors file"))
    array = tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else np.asarray(tensor)
    if array.dtype.newbyteorder("=") not in _NAMES:
        raise at_user_line(TypeError(f"the safetensors format has no dtype {array.dtype} (of {name!r})"))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _little_endian(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a file's contents, and where the numbers start."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
        raise at_user_line(ValueError("safetensors: the file is too short for its header, or is of another format"))
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise at_user_line(ValueError(f"safetensors: the header is not JSON ({error})")) from None
    if not isinstance(header, dict):
        raise at_user_line(ValueError("safetensors: the header is no JSON object"))
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise at_user_line(ValueError("safetensors: the metadata are not strings"))
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise at_user_line(ValueError("safetensors: a name stands in the header twice"))
    return found


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    found = entry.get("data_offsets") if isinstance(entry, dict) else None
    offsets = found if isinstance(found, list) else []
    if len(offsets) != 2 or not all(type(item) is int and item >= 0 for item in offsets):
        raise at_user_line(ValueError(f"safetensors: the entry of {name!r} has no data_offsets"))
    return offsets[0], offsets[1]


def _type_of_entry(name: str, entry: dict[str, Any]) -> tuple[DType, tuple[int, ...]]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(type(extent) is int and extent >= 0 for extent in shape):
        raise at_user_line(ValueError(f"safetensors: the entry of {name!r} has no shape"))
    if entry.get("dtype") not in _DTYPES:
        raise at_user_line(ValueError(f"safetensors: {name!r} has the unknown dtype {entry.get('dtype')!r}"))
    return _DTYPES[entry["dtype"]], tuple(shape)


# Structures: lists stand for themselves, and a dict of one entry says what the others are.


def _taken_apart(item: Any, path: str, tensors: dict[str, Any]) -> Any:
    if isinstance(item, Tensor | np.ndarray | np.generic):
        name = path or "tensor"
        while name in tensors:
            name += "_"
        tensors[name] = item
        return {"tensor": name}
    if item is None or isinstance(item, bool | int | float | str):
        return item
    if hasattr(item, "state_dict"):
        return _taken_apart(item.state_dict(), path, tensors)
    prefix = f"{path}." if path else ""
    if isinstance(item, Mapping):
        for key in item:
            if not isinstance(key, str | int):
                raise at_user_line(TypeError(f"checkpoint: the keys of a dict must be strings or ints, got {key!r}"))
        return {"dict": [[key, _taken_apart(value, f"{prefix}{key}", tensors)] for key, value in item.items()]}
    if isinstance(item, list | tuple):
        items = [_taken_apart(value, f"{prefix}{position}", tensors) for position, value in enumerate(item)]
        return {"tuple": items} if isinstance(item, tuple) else items
    raise at_user_line(TypeError(f"checkpoint: cannot save {type(item).__name__} at {path or 'the top'!r}"))


def _put_together(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_put_together(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    match node:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": pairs}:
            return {key: _put_together(value, tensors) for key, value in pairs}
        case {"tuple": items}:
            return tuple(_put_together(item, tensors) for item in items)
    raise at_user_line(ValueError(f"checkpoint: the file's structure is damaged: {node!r:.60}"))


__all__ = ["load", "load_bytes", "load_file", "load_metadata", "save", "save_bytes", "save_file"]
