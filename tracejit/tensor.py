"""Tensor: a mutable name for an immutable value.

``x += 1``, ``x[i] = v`` and ``x.add_(…)`` give the cell a new value and change no other tensor: slices,
``detach()`` and results are values of their own, not aliases.
"""

from __future__ import annotations

import copy
import itertools
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.devices import device_of, in_use, is_array, moved, on_host
from tracejit.ir import Value, type_of
from tracejit.ir.types import DType, bfloat16, format_shape, is_differentiable

from . import device as devices, dispatch, lost_writes
from .dispatch import Payload, fields
from .in_place import InPlaceMethods
from .levels import Box, innermost
from .locations import at_user_line, is_library
from .lost_writes import UNNAMED_ITEM
from .methods import TensorMethods
from .state import busy, changes, thread

if TYPE_CHECKING:
    from .tape import AccumulateGrad, Node


class _TensorType(type):
    """The class of ``Tensor``, of which what stands for a number or an array (:mod:`.disguise`) passes for no instance.

    The library's own code, though, takes it for a tensor.
    """

    def __instancecheck__(cls, item: Any) -> bool:
        if type(item) not in disguises:
            return _is_instance(cls, item)
        return _is_instance(cls, item) and (is_library(sys._getframe(1).f_code.co_filename) or not item._is_disguised())


_is_instance = type.__instancecheck__
disguises: set[type[Tensor]] = set()  # classes that say that they are others


class Tensor(InPlaceMethods, TensorMethods, metaclass=_TensorType):
    """An n-dimensional array that can be differentiated; made by :func:`tracejit.tensor` and the like."""

    __slots__ = (
        "__dict__", "__weakref__", "_accumulator", "_grad", "_node", "_post_hooks", "_requires_grad", "_value", "_weak",
    )  # fmt: skip

    _value: Payload
    _grad: Tensor | None
    _node: Node | None
    _accumulator: AccumulateGrad | None
    _requires_grad: bool
    _post_hooks: dict[int, Callable[[Tensor], None]] | None
    _weak: bool  # a Python float in disguise, while a function is traced: see promotion

    def __init__(self, data: Any, dtype: DType | None = None, requires_grad: bool = False) -> None:
        from .ops.creation import tensor

        _fill(self, devices.settled(tensor(data, dtype=dtype)._value))
        _tell_trace(self)
        if requires_grad:
            self.requires_grad_()

    # What it is -------------------------------------------------------------------------------------

    def _is_disguised(self) -> bool:
        """Whether it stands for something else, of those whose classes are ``disguises``."""
        return False

    @property
    def dtype(self) -> DType:
        return self._value.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        if busy[0] and thread.trace is not None and is_array(self._value):
            return thread.trace.shape_of(self)
        return tuple(self._value.shape)

    @property
    def ndim(self) -> int:
        return len(self._value.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def device(self) -> str:
        """Where its values are: ``"cpu"``, ``"cuda:0"``."""
        return devices.place_of(innermost(dispatch.payload(self))) if in_use[0] else "cpu"

    def numel(self) -> int:
        """The number of elements."""
        return self.size

    def dim(self) -> int:
        """The number of dimensions."""
        return self.ndim

    def __len__(self) -> int:
        if not self.shape:
            raise at_user_line(TypeError("len() of a 0-d tensor"))
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise at_user_line(TypeError("iteration over a 0-d tensor"))
        return map(self.__getitem__, range(self.shape[0]))

    def __repr__(self) -> str:
        value = dispatch.payload(self)
        if isinstance(value, Box):
            return repr(value)
        if isinstance(value, Value):
            assert thread.trace is not None
            value = thread.trace.shown(value, "its text")
        if self._weak:
            return repr(value.item())
        place = devices.name_of(value)
        value = np.asarray(on_host(value))
        shown = value.astype(np.float32) if value.dtype == bfloat16 else value
        body = np.array2string(shown, separator=", ", prefix="tensor(", precision=4)
        suffix = f", shape={format_shape(value.shape)}" if value.size == 0 and value.ndim > 1 else ""
        suffix += "" if value.dtype in _PLAIN_DTYPES else f", dtype={value.dtype.name}"
        suffix += "" if place == "cpu" else f", device={place!r}"
        if self._node is not None:
            suffix += f", grad_fn={self._node!r}"
        elif self.requires_grad:
            suffix += ", requires_grad=True"
        return f"tensor({body}{suffix})"

    # Gradients --------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return fields(self)._requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for a gradient (or no longer), in place; for a leaf of a floating-point or complex dtype."""
        if not isinstance(requires_grad, bool):
            raise at_user_line(RuntimeError("requires_grad must be a bool"))
        state = fields(self)
        if state._node is not None:
            if requires_grad:
                return self
            raise at_user_line(
                RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                    "in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
            )
        if requires_grad and not is_differentiable(self.dtype):
            raise at_user_line(
                RuntimeError(
                    "only Tensors of floating point and complex dtype can require gradients, "
                    f"got dtype {self.dtype.name} and shape {format_shape(self.shape)}"
                )
            )
        if requires_grad and thread.level is not None and state is self and not self._requires_grad:
            thread.level.adopt(self)
        state._requires_grad = requires_grad
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook`` with this tensor's gradient when it is complete; what it returns (if not None) replaces it.

        >>> import tracejit as tj
        >>> x = tj.tensor(2.0, requires_grad=True)
        >>> handle = x.register_hook(lambda gradient: gradient * 10)
        >>> (x * x).backward()
        >>> x.grad
        tensor(40.)
        """
        from .tape import node_of

        node = node_of(self)
        if node is None:
            raise at_user_line(RuntimeError("cannot register a hook on a tensor that doesn't require gradient"))
        if node.hooks is None:
            node.hooks = {}
        return RemovableHandle(node.hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call ``hook`` with this leaf after its ``.grad`` has been added to."""
        if not self.requires_grad:
            raise at_user_line(RuntimeError("cannot register a hook on a tensor that doesn't require gradient"))
        if not self.is_leaf:
            raise at_user_line(RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors"))
        if self._post_hooks is None:
            self._post_hooks = {}
        return RemovableHandle(self._post_hooks, hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in its ``.grad``."""
        node = fields(self)._node
        if node is not None:
            node.retained_by = weakref.ref(self)
        elif not self.requires_grad:
            raise at_user_line(RuntimeError("can't retain_grad on Tensor that has requires_grad=False"))

    @property
    def retains_grad(self) -> bool:
        """Whether the gradient of this computed tensor is kept: :meth:`retain_grad` was called."""
        node = fields(self)._node
        return node is not None and node.retained_by is not None and node.retained_by() is self

    @property
    def is_leaf(self) -> bool:
        return fields(self)._node is None

    @property
    def grad_fn(self) -> Node | None:
        return fields(self)._node

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward`` has added up; ``None`` before."""
        state = fields(self)
        if state is self:
            if self._node is not None and self._grad is None and self._node.retained_by is None:
                warnings.warn(
                    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute "
                    "won't be populated during autograd.backward(). If you indeed want the .grad field to be populated "
                    "for a non-leaf Tensor, use .retain_grad() on the non-leaf Tensor.",
                    UserWarning,
                    stacklevel=2,
                )
            return self._grad
        assert thread.trace is not None
        return thread.trace.gradient_of(state)

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if gradient is not None:
            if not isinstance(gradient, Tensor):
                raise at_user_line(TypeError(f"assigned grad must be a Tensor or None, got {type(gradient).__name__}"))
            if gradient is self:
                raise at_user_line(RuntimeError("can't assign Variable as its own grad"))
            if gradient.shape != self.shape:
                raise at_user_line(
                    RuntimeError(
                        f"assigned grad has data of a different size: {format_shape(gradient.shape)}, "
                        f"expected {format_shape(self.shape)}"
                    )
                )
            if gradient.dtype != self.dtype:
                raise at_user_line(
                    RuntimeError(f"assigned grad has data of a different type: {gradient.dtype}, expected {self.dtype}")
                )
        fields(self)._grad = gradient

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add the gradient of this tensor to the ``.grad`` of the leaves it was computed from.

        >>> import tracejit as tj
        >>> x = tj.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
        """
        from .autograd import backward

        backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same value without a history; a value of its own, so that changing it in place changes this one not."""
        return new_tensor(dispatch.detached(dispatch.payload(self)))

    def detach_(self) -> Tensor:
        """Forget the history, in place: the tensor becomes a leaf that does not require gradients."""
        state = fields(self)
        value = dispatch.payload(self)
        if (detached := dispatch.detached(value)) is not value:
            state._value = detached
        state._node, state._requires_grad = None, False
        return self

    @property
    def data(self) -> Tensor:
        """:meth:`detach`; set, it gives the tensor another value, unseen by ``backward`` and kept by the leaf."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        from .autograd.modes import no_grad

        if not isinstance(value, Tensor):
            raise at_user_line(TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}"))
        if self.requires_grad and not is_differentiable(value.dtype):
            message = "data set to a tensor that requires gradients must be floating point or complex dtype"
            raise at_user_line(RuntimeError(f"{message}, got {value.dtype.name}"))
        if (value.shape, value.dtype, value.device) == (self.shape, self.dtype, self.device):
            with no_grad():
                self._assign(value)
            return
        what = "gives a tensor data of another shape or dtype"
        if thread.level is not None:
            raise at_user_line(RuntimeError(f"a function that is transformed {what}"))
        if thread.trace is not None:
            thread.trace.refuse(f"it {what}")
        retype(self, dispatch.payload(value))

    # Out of the library -----------------------------------------------------------------------------

    def _concrete(self, what: str) -> np.ndarray:
        """The values, on the host."""
        value = dispatch.payload(self)
        if isinstance(value, Box):
            return value.seen(what)._concrete(what)
        if isinstance(value, Value):
            assert thread.trace is not None
            return thread.trace.concrete(value, what)
        return on_host(value) if in_use[0] else value

    def _extent(self, what: str) -> Any:
        """The number that this tensor holds, which is that of something's elements."""
        value = dispatch.payload(self)
        if thread.trace is not None and not isinstance(value, Box):
            return thread.trace.extent(value, what)
        return int(self._concrete(what))

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The value as a read-only NumPy array, not copied.

        ``RuntimeError`` for a tensor that requires gradients, unless under ``no_grad`` or with ``force``.
        """
        if self.requires_grad and thread.grad_enabled and not force:
            message = "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            raise at_user_line(RuntimeError(message))
        if in_use[0] and not force and (place := self.device) != "cpu":
            advice = "Use Tensor.cpu() to copy the tensor to host memory first."
            raise at_user_line(TypeError(f"can't convert {place} device type tensor to numpy. {advice}"))
        view = np.asarray(self._concrete("numpy()")).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> Any:
        """The only element, as a Python number."""
        value = self._value
        if not busy[0] and type(value) is np.ndarray and value.size == 1:
            return value.item()
        if self.size != 1:
            raise at_user_line(RuntimeError(f"a Tensor with {self.size} elements cannot be converted to Scalar"))
        if isinstance(self._value, Box):
            return self._value.seen("item()").item()
        if thread.trace is not None:
            return thread.trace.item(self)
        return self._concrete("item()").item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._concrete("tolist()").tolist()

    def __bool__(self) -> bool:
        if self.size != 1:
            values = "no values" if self.size == 0 else "more than one value"
            raise at_user_line(RuntimeError(f"Boolean value of Tensor with {values} is ambiguous"))
        return bool(self._concrete("a condition"))

    def _number(self) -> Any:
        value = self._value
        if not busy[0] and type(value) is np.ndarray and value.size == 1:
            return value.item()
        if self.size != 1:
            raise at_user_line(ValueError("only one element tensors can be converted to Python scalars"))
        return self._concrete("a number").item()

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The value for another library; read-only where the DLPack version can say so, else a copy."""
        if in_use[0] and device_of(value := dispatch.payload(self)) is not None:
            return value.__dlpack__(stream=stream)
        from . import dlpack

        if self.requires_grad:
            raise at_user_line(BufferError("Can't export tensors that require gradient, use tensor.detach()"))
        view = self.numpy()
        if max_version is None or max_version[0] < 1:
            view = view.copy()
        return dlpack.exported(view, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        if in_use[0] and device_of(value := dispatch.payload(self)) is not None:
            kind, number = value.__dlpack_device__()
            return int(kind), int(number)
        return (1, 0)  # the CPU

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where the value lies on a GPU, for libraries that ask so; a tensor elsewhere has no such attribute."""
        value = dispatch.payload(self) if in_use[0] else None
        if not hasattr(value, "__cuda_array_interface__"):
            raise AttributeError(f"a tensor on {self.device!r} has no __cuda_array_interface__")
        if self.requires_grad:
            raise at_user_line(RuntimeError("Can't export tensors that require gradient, use tensor.detach()"))
        found: dict[str, Any] = value.__cuda_array_interface__  # type: ignore[union-attr]
        return found

    def __int__(self) -> int:
        return int(self._number())

    def __round__(self, ndigits: int | None = None) -> Any:
        if self.ndim:
            return self.round(ndigits or 0)
        return round(self._concrete("round()").item(), ndigits)

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.size != 1:
            raise at_user_line(TypeError("only integer tensors of a single element can be converted to an index"))
        return int(self._concrete("an index").item())

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        if self.ndim == 0 and spec:
            return format(self._number(), spec)
        if spec:
            raise at_user_line(TypeError(f"format {spec!r} is for a number, not for a Tensor of shape {self.shape}"))
        return str(self)

    def __reduce__(self) -> Any:
        if self._node is not None:
            raise at_user_line(RuntimeError("only leaf tensors can be pickled or copied; use detach()"))
        values = np.asarray(self._concrete("pickling"))
        return _rebuild, (type(self), values, self._requires_grad, *([self.device] if self.device != "cpu" else []))

    def __copy__(self) -> Tensor:
        from .tape import same_value

        return same_value(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if fields(self)._node is not None:
            raise at_user_line(
                RuntimeError(
                    "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
                    "at the moment."
                )
            )
        twin = _bare(type(self), dispatch.payload(self))
        _tell_trace(twin)
        twin._requires_grad = self.requires_grad
        memo[id(self)] = twin
        twin._grad = copy.deepcopy(self.grad, memo)
        return twin

    # In place ---------------------------------------------------------------------------------------

    def _assign(self, result: Tensor) -> Tensor:
        """Give the cell a new value; the way of every operation in place."""
        state = fields(self)
        if thread.grad_enabled and state._requires_grad and state._node is None:
            raise at_user_line(
                RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
            )
        if result.shape != self.shape:
            raise at_user_line(
                RuntimeError(
                    f"output with shape {format_shape(self.shape)} doesn't match the broadcast shape "
                    f"{format_shape(result.shape)}"
                )
            )
        if result.dtype != self.dtype:
            from .promotion import kind

            if kind(result.dtype) > kind(self.dtype):
                raise at_user_line(
                    RuntimeError(
                        f"result type {result.dtype.name} can't be cast to the desired output type {self.dtype.name}"
                    )
                )
            result = result.astype(self.dtype)
        if in_use[0]:
            result = devices.at_home_of(self, result)
        source, value = fields(result), dispatch.payload(result)
        if isinstance(value, Box):
            value.level.note_change(state, value)
        if thread.region is not None:
            thread.region.note_change(state)
        state._value = value
        if thread.grad_enabled:
            from .tape import node_of

            state._node = node_of(result)
            state._requires_grad = source._requires_grad
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        from .ops.indexing import with_item

        if getrefcount(self) <= UNNAMED_ITEM:
            lost_writes.look("__setitem__")
        self._assign(with_item(self, key, value))

    __hash__ = object.__hash__


_PLAIN_DTYPES = (np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_))


def _fill(tensor: Tensor, value: Payload) -> None:
    """Make a blank cell a leaf that holds ``value``."""
    tensor._value = value
    tensor._accumulator = tensor._grad = tensor._node = tensor._post_hooks = None
    tensor._requires_grad = tensor._weak = False


def _tell_trace(tensor: Tensor) -> None:
    """An active trace knows the tensors that are made meanwhile."""
    trace = thread.trace
    if trace is not None:
        trace.born.append(weakref.ref(tensor))


def _bare(cls: type[Tensor], value: Payload) -> Tensor:
    tensor = object.__new__(cls)
    _fill(tensor, value)
    return tensor


def _rebuild(cls: type[Tensor], value: np.ndarray, requires_grad: bool, device: str = "cpu") -> Tensor:
    tensor = _bare(cls, value if device == "cpu" else moved(value, devices.find(device)))
    tensor._requires_grad = requires_grad
    return tensor


def new_tensor(value: Payload) -> Tensor:
    """A tensor for an array or a traced value; the array must not be written to any more."""
    tensor = concrete_tensor(value)
    _tell_trace(tensor)
    return tensor


def concrete_tensor(array: Payload) -> Tensor:
    """:func:`new_tensor` where no trace is active."""
    tensor: Tensor = object.__new__(Tensor)
    tensor._value = array
    tensor._accumulator = tensor._grad = tensor._node = tensor._post_hooks = None
    tensor._requires_grad = tensor._weak = False
    return tensor


def is_plain(item: Any) -> bool:
    """Whether it is a tensor of which only the array counts: nothing is traced, transformed or recorded."""
    return isinstance(item, Tensor) and not busy[0] and not item._requires_grad and type(item._value) is np.ndarray


def twin_of(tensor: Tensor) -> Tensor:
    """Another tensor that is like this one, but for its history."""
    twin = _bare(type(tensor), tensor._value)
    twin._grad, twin._post_hooks = tensor._grad, tensor._post_hooks
    twin._requires_grad, twin._weak = tensor._requires_grad, tensor._weak
    twin.__dict__.update(tensor.__dict__)
    return twin


def retype(tensor: Tensor, value: Payload) -> None:
    """Give a leaf's cell a value of another dtype, as ``Module.to`` does."""
    tensor._value = value if thread.trace is None else thread.trace.concrete(value, "a conversion")
    if tensor._accumulator is not None:
        tensor._accumulator.type = type_of(tensor._value)
    changes.types += 1


class RemovableHandle:
    """Takes a hook away again: ``handle.remove()``, or at the end of a ``with handle:``."""

    _numbers = itertools.count()

    def __init__(self, hooks: dict[int, Any], hook: Callable[..., Any]) -> None:
        self._hooks, self._number = hooks, next(self._numbers)
        hooks[self._number] = hook
        changes.hooks += 1

    def remove(self) -> None:
        self._hooks.pop(self._number, None)
        changes.hooks += 1

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Parameter(Tensor):
    """A tensor that a module owns and an optimizer updates; requires gradients unless told otherwise."""

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        _fill(self, devices.settled(dispatch.payload(data)))
        _tell_trace(self)
        if requires_grad:
            self.requires_grad_()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A copy without the gradient, which belongs to the training of this one."""
        twin = super().__deepcopy__(memo)
        twin._grad = None
        return twin

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
