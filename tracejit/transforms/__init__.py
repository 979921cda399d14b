"""Functions of functions: their derivatives, and the same for a batch."""

from .batch import axis_index, axis_size, pmax, pmean, pmin, psum, vmap
from .forward import jvp, linearize
from .jacobians import hessian, hvp, jacfwd, jacobian, jacrev
from .reverse import grad, value_and_grad, vjp

__all__ = [
    "axis_index", "axis_size", "grad", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "linearize", "pmax",
    "pmean", "pmin", "psum", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
