"""Functions of functions: their derivatives, and the same for a batch."""

from .batch import axis_index, axis_size, pmax, pmean, pmin, psum, vmap
from .checkpointing import checkpoint
from .custom import custom_jvp, custom_vjp
from .forward import jvp, linearize
from .jacobians import hessian, hvp, jacfwd, jacobian, jacrev
from .reverse import grad, stop_gradient, value_and_grad, vjp

__all__ = [
    "axis_index", "axis_size", "checkpoint", "custom_jvp", "custom_vjp", "grad", "hessian", "hvp", "jacfwd",
    "jacobian", "jacrev", "jvp", "linearize", "pmax", "pmean", "pmin", "psum", "stop_gradient", "value_and_grad",
    "vjp", "vmap",
]  # fmt: skip
