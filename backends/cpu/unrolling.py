"""How many elements a step of a loop without order takes: several vectors where much is computed.

Each instruction of such a body waits for the one before, but not for those of other vectors.  The processor looks ahead
by itself, but not over as many instructions as that would need.
"""

from __future__ import annotations

from .. import kernel as k
from .emitter import VECTOR_LANES

LONG_BODY = 16  # instructions
STEP_BYTES = 256  # of the vectors in a step with so many


def map_lanes(loop: k.Loop) -> int:
    """Elements in a step: many only of what lies side by side in memory."""
    accesses = [statement for statement in loop.body if isinstance(statement, k.Load | k.Store)]
    computed = [statement for statement in loop.body if isinstance(statement, k.Instruction | k.Call)]
    are_near = all(
        access.imaginary is None and not access.address.dynamic and access.address.terms.get(loop.axis, 0) in (0, 1)
        for access in accesses
    )
    if not are_near or len(computed) < LONG_BODY or len(accesses) + len(computed) < len(loop.body):
        return VECTOR_LANES
    return max(VECTOR_LANES, STEP_BYTES // max(4, *(statement.result.dtype.itemsize for statement in computed)))
