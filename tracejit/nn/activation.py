"""Activations, as modules."""

from __future__ import annotations

from typing import Any

from ..locations import at_user_line
from ..ops import creation
from ..tensor import Parameter, Tensor
from . import functional
from .module import Module


class _Activation(Module):
    """A function of each element, with settings; ``inplace`` writes the result to the input tensor too."""

    inplace = False

    def _settings(self, *names: str) -> str:
        shown = [f"{name}={getattr(self, name)}" for name in names]
        return ", ".join([*shown, *(["inplace=True"] if self.inplace else [])])


class ReLU(_Activation):
    """``max(x, 0)``.

    >>> import tracejit as tj
    >>> ReLU()(tj.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.relu(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class GELU(Module):
    """``x`` times the normal distribution function of ``x``; ``approximate`` is ``"none"`` or ``"tanh"``."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.tanh(input)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.sigmoid(input)


class SiLU(_Activation):
    """``x * sigmoid(x)``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.silu(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class Softmax(Module):
    """``exp(x)`` divided by its sum along ``dim``.

    >>> import tracejit as tj
    >>> Softmax(dim=-1)(tj.zeros(1, 4))
    tensor([[0.25, 0.25, 0.25, 0.25]])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of :class:`Softmax`, without overflow."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmin(_Activation):
    """:class:`Softmax` of ``-x``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.softmin(input, self.dim)

    def extra_repr(self) -> str:
        return self._settings("dim")


class LeakyReLU(_Activation):
    """``x`` where it is positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.leaky_relu(input, self.negative_slope, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings("negative_slope")


class ELU(_Activation):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.elu(input, self.alpha, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings("alpha")


class CELU(_Activation):
    """``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.celu(input, self.alpha, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings("alpha")


class SELU(_Activation):
    """:class:`ELU` with the scales that keep mean 0 and variance 1."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.selu(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class Softplus(_Activation):
    """``log(1 + exp(beta * x)) / beta``; ``x`` itself where ``beta * x > threshold``."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return self._settings("beta", "threshold")


class Mish(_Activation):
    """``x * tanh(softplus(x))``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.mish(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class Hardtanh(_Activation):
    """``x`` limited to ``[min_val, max_val]``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.hardtanh(input, self.min_val, self.max_val, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings("min_val", "max_val")


class ReLU6(_Activation):
    """``x`` limited to ``[0, 6]``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.relu6(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class Hardsigmoid(_Activation):
    """``x / 6 + 1 / 2`` limited to ``[0, 1]``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.hardsigmoid(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class Hardswish(_Activation):
    """``x`` times :class:`Hardsigmoid` of it."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.hardswish(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings()


class Threshold(_Activation):
    """``x`` where it is above ``threshold``, else ``value``."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.threshold(input, self.threshold, self.value, inplace=self.inplace)

    def extra_repr(self) -> str:
        return self._settings("threshold", "value")


class Hardshrink(_Activation):
    """``x``, but 0 in ``[-lambd, lambd]``."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softshrink(_Activation):
    """``x`` moved towards 0 by ``lambd``, and 0 in ``[-lambd, lambd]``."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class GLU(_Activation):
    """The first half along ``dim`` times the sigmoid of the second."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Extent ``2 n`` along ``dim`` → ``n``."""
        return functional.glu(input, self.dim)

    def extra_repr(self) -> str:
        return self._settings("dim")


class LogSigmoid(Module):
    """The logarithm of the sigmoid, without overflow."""

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.logsigmoid(input)


class Softsign(Module):
    """``x / (1 + |x|)``."""

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.softsign(input)


class Tanhshrink(Module):
    """``x - tanh(x)``."""

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.tanhshrink(input)


class Softmax2d(Module):
    """:class:`Softmax` over the channels of ``(N, C, H, W)`` or ``(C, H, W)``."""

    def forward(self, input: Any) -> Tensor:
        """``(N, C, H, W)`` or ``(C, H, W)`` → the same shape."""
        if input.ndim not in (3, 4):
            message = f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead"
            raise at_user_line(ValueError(message))
        return functional.softmax(input, -3)


class RReLU(_Activation):
    """:class:`LeakyReLU` with random slopes in training; see :func:`.functional.rrelu`."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Any shape → the same shape."""
        return functional.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return self._settings("lower", "upper")


class PReLU(Module):
    """:class:`LeakyReLU` with a slope that is learned: one, or one for each of ``num_parameters`` channels.

    >>> import tracejit as tj
    >>> PReLU()(tj.tensor([-4.0, 2.0])).detach()
    tensor([-1.,  2.])
    """

    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(creation.full((num_parameters,), float(init), dtype=dtype, device=device))

    def forward(self, input: Any) -> Tensor:
        """``(N, C, …)`` → the same shape."""
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
