"""Functions of functions: their derivatives, and the same for a batch.

Each runs the function it is given on tensors that know a little more (see :mod:`tracejit.levels`), so that they work on
plain eager code, within each other in any order, and under ``jit``, which compiles what they do.

========================================================  ============================================================
``grad value_and_grad vjp``                               backward, by the tape: :mod:`.reverse`
``jvp linearize``                                         forward: :mod:`.forward`
``jacrev jacfwd jacobian hessian hvp``                    derivatives as arrays: :mod:`.jacobians`
``vmap``; ``psum pmean pmax pmin axis_index axis_size``   batches, and what elements tell each other: :mod:`.batch`
``custom_vjp custom_jvp stop_gradient``                   derivatives of one's own: :mod:`.custom`
``checkpoint``                                            values that are computed again: :mod:`.checkpointing`
========================================================  ============================================================

A jitted function that is called within a transformed one runs as the Python code that it is; ``jit`` outside of the
transformation compiles it all.
"""

from . import checkpoint_policies
from .batch import axis_index, axis_size, pmax, pmean, pmin, psum, vmap
from .checkpointing import checkpoint, checkpoint_name
from .custom import custom_jvp, custom_vjp
from .forward import jvp, linearize
from .jacobians import hessian, hvp, jacfwd, jacobian, jacrev
from .reverse import grad, stop_gradient, value_and_grad, vjp

__all__ = [
    "axis_index", "axis_size", "checkpoint", "checkpoint_name", "checkpoint_policies", "custom_jvp", "custom_vjp",
    "grad", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "linearize", "pmax", "pmean", "pmin", "psum",
    "stop_gradient", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
