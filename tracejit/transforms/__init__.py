"""Functions of functions: their derivatives, and the same for a batch."""

from .batch import axis_index, axis_size, pmax, pmean, pmin, psum, vmap
from .forward import jvp, linearize
from .reverse import grad, value_and_grad, vjp

__all__ = [
    "axis_index", "axis_size", "grad", "jvp", "linearize", "pmax", "pmean", "pmin", "psum", "value_and_grad", "vjp",
    "vmap",
]  # fmt: skip
