"""DLPack for what NumPy can't exchange: bfloat16.

NumPy makes and reads the capsules, of the same bits as uint16; the type is changed within the capsule.

Source: DLPack's C header, https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from tracejit.ir.types import bfloat16

_UINT16, _BFLOAT16 = (1, 16, 1), (4, 16, 1)  # code, bits, lanes


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, (ctypes.py_object,)
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _dtype_in(capsule: Any) -> _DataType:
    """The dtype that a capsule tells, where it can be changed."""
    name = _name_of(capsule)
    pointer = _pointer_of(capsule, name)
    assert pointer is not None
    if name == b"dltensor_versioned":
        return _Versioned.from_address(pointer).tensor.dtype
    return _Tensor.from_address(pointer).dtype


def _is(dtype: _DataType, expected: tuple[int, int, int]) -> bool:
    return (dtype.code, dtype.bits, dtype.lanes) == expected


def exported(array: np.ndarray, **how: Any) -> Any:
    """A capsule for an array."""
    if array.dtype != bfloat16:
        return array.__dlpack__(**how)
    capsule = array.view(np.uint16).__dlpack__(**how)
    dtype = _dtype_in(capsule)
    dtype.code, dtype.bits, dtype.lanes = _BFLOAT16
    return capsule


class _Exporter:
    """Another library's array, whose capsules are looked into before NumPy gets them."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.is_bfloat16 = False

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.source.__dlpack_device__()

    def __dlpack__(self, **how: Any) -> Any:
        try:
            capsule = self.source.__dlpack__(**how)
        except TypeError:  # it knows none of the newer keywords
            capsule = self.source.__dlpack__()
        dtype = _dtype_in(capsule)
        if _is(dtype, _BFLOAT16):
            self.is_bfloat16 = True
            dtype.code, dtype.bits, dtype.lanes = _UINT16
        return capsule


def imported(source: Any) -> np.ndarray:
    """An array of what another library's array holds, not copied."""
    exporter = _Exporter(source)
    array = np.from_dlpack(exporter)
    return array.view(bfloat16) if exporter.is_bfloat16 else array
