"""The methods that change a tensor in place: they give the cell the value that a function of it has."""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from . import (
    lost_writes,
    ops,  # its modules need the class that these methods are mixed into: they are loaded later
)
from .lost_writes import UNNAMED
from .state import thread

if TYPE_CHECKING:
    from .random import Generator
    from .tensor import Tensor


def _by(name: str, module: str, function: str) -> Callable[..., Tensor]:
    """A method that puts the value of a function of the tensor, and of the method's arguments, into its place."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        if getrefcount(self) <= UNNAMED:
            lost_writes.look(name)
        return self._assign(getattr(getattr(ops, module), function)(self, *args, **kwargs))

    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"See :func:`tracejit.{function}`; in place."
    return method


def _like(method: str) -> Callable[..., Tensor]:
    """A method that puts the value that another method gives into the tensor's place."""

    def changed(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        if getrefcount(self) <= UNNAMED:
            lost_writes.look(f"{method}_")
        return self._assign(getattr(self, method)(*args, **kwargs))

    changed.__name__, changed.__qualname__ = f"{method}_", f"Tensor.{method}_"
    changed.__doc__ = f"See :meth:`{method}`; in place."
    return changed


class InPlaceMethods:
    """Mixed into :class:`~tracejit.Tensor`; each method returns the tensor, whose shape and dtype stay.

    >>> import tracejit as tj
    >>> x = tj.tensor([1.0, -4.0])
    >>> x.abs_().sqrt_()
    tensor([1., 2.])
    >>> x
    tensor([1., 2.])
    """

    __slots__ = ()

    def add_(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """``self + alpha * other``."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("add_")
        scaled = other if alpha == 1 else ops.elementwise.multiply(other, alpha)
        return self._assign(ops.elementwise.add(self, scaled))

    def sub_(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """``self - alpha * other``."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("sub_")
        scaled = other if alpha == 1 else ops.elementwise.multiply(other, alpha)
        return self._assign(ops.elementwise.subtract(self, scaled))

    def copy_(self: Any, source: Any) -> Tensor:
        """The value of ``source``, broadcast and converted to this tensor's shape and dtype."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("copy_")
        from .promotion import as_tensor  # needs the class that these methods are mixed into

        value = ops.manipulation.broadcast_to(as_tensor(source, "copy_"), self.shape)
        return self._assign(ops.elementwise.astype(value, self.dtype))

    def fill_(self: Any, value: Any) -> Tensor:
        """``value`` everywhere; what was there before has gradient 0 then."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("fill_")
        filled = ops.creation.full_like(self, value)
        if thread.grad_enabled and self.grad_fn is not None:
            filled = ops.elementwise.where(True, filled, self)
        return self._assign(filled)

    def zero_(self: Any) -> Tensor:
        """Zeros."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("zero_")
        return self.fill_(0)

    def masked_fill_(self: Any, mask: Any, value: Any) -> Tensor:
        """``value`` where the ``mask`` is true."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("masked_fill_")
        return self._assign(ops.elementwise.where(mask, value, self))

    def uniform_(self: Any, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Uniform numbers in ``[low, high)``."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("uniform_")
        return self._assign((generator or _generator()).uniform(self.shape, low, high, self.dtype))

    def normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Normal numbers of the given mean and standard deviation."""
        if getrefcount(self) <= UNNAMED:
            lost_writes.look("normal_")
        return self._assign((generator or _generator()).normal(self.shape, mean, std, self.dtype))

    abs_ = _by("abs_", "elementwise", "abs")
    ceil_ = _by("ceil_", "elementwise", "ceil")
    clamp_ = _by("clamp_", "elementwise", "clip")
    clip_ = _by("clip_", "elementwise", "clip")
    cos_ = _by("cos_", "elementwise", "cos")
    div_ = _by("div_", "elementwise", "divide")
    erf_ = _by("erf_", "elementwise", "erf")
    exp_ = _by("exp_", "elementwise", "exp")
    expm1_ = _by("expm1_", "elementwise", "expm1")
    floor_ = _by("floor_", "elementwise", "floor")
    floor_divide_ = _by("floor_divide_", "arithmetic", "floor_divide")
    log_ = _by("log_", "elementwise", "log")
    log1p_ = _by("log1p_", "elementwise", "log1p")
    mul_ = _by("mul_", "elementwise", "multiply")
    neg_ = _by("neg_", "elementwise", "negative")
    pow_ = _by("pow_", "elementwise", "pow")
    reciprocal_ = _by("reciprocal_", "elementwise", "reciprocal")
    relu_ = _by("relu_", "elementwise", "relu")
    remainder_ = _by("remainder_", "arithmetic", "remainder")
    round_ = _by("round_", "elementwise", "round")
    rsqrt_ = _by("rsqrt_", "elementwise", "rsqrt")
    sigmoid_ = _by("sigmoid_", "elementwise", "sigmoid")
    sign_ = _by("sign_", "elementwise", "sign")
    sin_ = _by("sin_", "elementwise", "sin")
    sqrt_ = _by("sqrt_", "elementwise", "sqrt")
    square_ = _by("square_", "elementwise", "square")
    tan_ = _by("tan_", "elementwise", "tan")
    tanh_ = _by("tanh_", "elementwise", "tanh")
    trunc_ = _by("trunc_", "arithmetic", "trunc")

    acos_, asin_, atan_, atan2_ = _like("acos"), _like("asin"), _like("atan"), _like("atan2")
    clamp_max_, clamp_min_ = _like("clamp_max"), _like("clamp_min")
    copysign_, hypot_, xlogy_ = _like("copysign"), _like("hypot"), _like("xlogy")
    cosh_, sinh_ = _like("cosh"), _like("sinh")
    cumprod_, cumsum_ = _like("cumprod"), _like("cumsum")
    digamma_, lgamma_, logit_ = _like("digamma"), _like("lgamma"), _like("logit")
    erfc_, erfinv_ = _like("erfc"), _like("erfinv")
    exp2_, log2_, log10_ = _like("exp2"), _like("log2"), _like("log10")
    lerp_, nan_to_num_, scatter_add_ = _like("lerp"), _like("nan_to_num"), _like("scatter_add")


def _generator() -> Generator:
    from .random import default_generator

    return default_generator
