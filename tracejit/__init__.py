"""tracejit: an eager tensor library that compiles itself.

Code runs at once, like NumPy with PyTorch's autograd; ``@jit`` records one run of a function into an SSA IR,
optimises it, lowers it to native code, and from then on calls that, keyed by the shapes of the inputs.

>>> import tracejit as tj
>>> @tj.jit
... def f(x):
...     return tj.tanh(x) * 2
>>> f(tj.tensor([0.0, 1.0]))
tensor([0.    , 1.5232])
"""

import os.path as _path

# In a checkout ir/ and backends/ stand beside this package; installed, they stand inside it.
_root = _path.dirname(__path__[0])
if not _path.isdir(_path.join(__path__[0], "ir")) and _path.isdir(_path.join(_root, "ir")):
    __path__.append(_root)

__version__ = "0.1.0"

from tracejit.ir.types import (  # noqa: E402
    bfloat16,
    bool_ as bool,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)  # fmt: skip

from . import autograd, random  # noqa: E402
from .autograd import enable_grad, inference_mode, no_grad, set_grad_enabled  # noqa: E402
from .jit import jit  # noqa: E402
from .ops.creation import (  # noqa: E402
    arange,
    asarray,
    empty,
    eye,
    full,
    full_like,
    linspace,
    one_hot,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)  # fmt: skip
from .ops.elementwise import (  # noqa: E402
    abs,
    add,
    astype,
    bitwise_and,
    bitwise_invert,
    bitwise_or,
    bitwise_xor,
    ceil,
    clip,
    cos,
    divide,
    equal,
    erf,
    erfinv,
    exp,
    expm1,
    floor,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    positive,
    pow,
    reciprocal,
    relu,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    where,
)  # fmt: skip
from .ops.indexing import take, take_along_axis  # noqa: E402
from .ops.linalg import matmul  # noqa: E402
from .ops.manipulation import (  # noqa: E402
    broadcast_to,
    concat,
    expand_dims,
    flatten,
    flip,
    matrix_transpose,
    pad,
    permute_dims,
    reshape,
    squeeze,
    stack,
    transpose,
)  # fmt: skip
from .ops.reduction import (  # noqa: E402
    all,
    any,
    argmax,
    argmin,
    logsumexp,
    max,
    mean,
    min,
    std,
    sum,
    var,
)  # fmt: skip
from .random import manual_seed, rand, randint, randn  # noqa: E402
from .tensor import Parameter, Tensor  # noqa: E402


def __getattr__(name: str) -> object:
    """The packages that are loaded when they are first used."""
    if name in ("nn", "optim"):
        from importlib import import_module

        return import_module(f"tracejit.{name}")
    raise AttributeError(f"module 'tracejit' has no attribute {name!r}")


__all__ = [
    "Parameter", "Tensor", "abs", "add", "all", "any", "arange", "argmax", "argmin", "asarray", "astype", "autograd",
    "bfloat16", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "bool", "broadcast_to", "ceil", "clip",
    "complex128", "complex64", "concat", "cos", "divide", "empty", "enable_grad", "equal", "erf", "erfinv", "exp",
    "expand_dims", "expm1", "eye", "flatten", "flip", "float16", "float32", "float64", "floor", "full", "full_like",
    "greater", "greater_equal", "inference_mode", "int16", "int32", "int64", "int8", "isfinite", "isinf", "isnan",
    "jit", "less", "less_equal", "linspace", "log", "log1p", "logical_and", "logical_not", "logical_or",
    "logical_xor", "logsumexp", "manual_seed", "matmul", "matrix_transpose", "max", "maximum", "mean", "min",
    "minimum", "multiply", "negative", "no_grad", "not_equal", "one_hot", "ones", "ones_like", "pad", "permute_dims",
    "positive", "pow", "rand", "randint", "randn", "random", "reciprocal", "relu", "reshape", "round", "rsqrt",
    "set_grad_enabled", "sigmoid", "sign", "sin", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum",
    "take", "take_along_axis", "tan", "tanh", "tensor", "transpose", "uint16", "uint32", "uint64", "uint8", "var",
    "where", "zeros", "zeros_like",
]  # fmt: skip
