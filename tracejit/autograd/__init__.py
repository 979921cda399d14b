"""Differentiation as PyTorch's users know it: ``backward``, ``grad``, the modes, functions of your own, checks.

Values are immutable, so what an operation saved for its derivative stays right, whatever is done to tensors in place:
there is no "modified by an inplace operation" here.  ``backward`` adds all gradients or, where something fails, none.

What the gradient is where there is none, or more than one:

- of a *complex* number it points where a real loss grows fastest, as in PyTorch: its parts are the derivatives by the
  real and by the imaginary part, and ``z -= lr * z.grad`` goes down;
- ``max``, ``min``, ``maximum``, ``minimum`` share it evenly among ties; ``sort`` and ``median`` give it to the elements
  that they take;
- of ``relu``, ``abs``, ``sign``, ``copysign`` at 0 it is 0; of ``clip`` at a bound 1; of ``floor``, ``round`` … 0;
- of ``sqrt``, ``log``, ``1 / x`` at 0 it is infinite, and 0 times that is NaN; but a norm or a standard deviation that
  is 0 has gradient 0, and so have ``x ** 0``, ``0 ** y`` and ``hypot`` at the origin;
- ``where`` gives the branch that is not taken 0, also where its derivative is infinite or NaN;
- a NaN gives NaN, but ``relu`` and ``clip`` hand the gradient on;
- of ``det`` and ``prod`` it is right where they are 0; of eigenvalues and singular values where several are equal.
"""

from .engine import backward, grad
from .function import Function, once_differentiable
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)

__all__ = [
    "Function", "GradcheckError", "backward", "detect_anomaly", "enable_grad", "grad", "gradcheck", "gradgradcheck",
    "inference_mode", "is_grad_enabled", "no_grad", "once_differentiable", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
