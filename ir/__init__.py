"""The language: types, values, primitives, graphs, their text, and passes over them.

This room knows neither tensors nor machines.  A program enters as a :class:`Graph` (built by the tracer
in ``tracejit``, or parsed from text), is rewritten by ``passes`` and leaves for ``backends``, which
turn it into kernels.  Start with ``primitive.py``: one record holds all that is known of an operation.
"""

from . import primitives
from .graph import Block, Builder, Constant, Graph, Location, Op, Value
from .primitive import PRIMITIVES, Application, Emitter, Primitive
from .types import DType, Shape, Symbol, TensorType, type_of

__all__ = [
    "PRIMITIVES", "Application", "Block", "Builder", "Constant", "DType", "Emitter", "Graph", "Location", "Op",
    "Primitive", "Shape", "Symbol", "TensorType", "Value", "primitives", "type_of",
]  # fmt: skip
