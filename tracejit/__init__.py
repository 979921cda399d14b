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
__array_api_version__ = "2025.12"

from math import e, inf, nan, pi  # noqa: E402

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

from . import autograd, fft, linalg, random  # noqa: E402
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # noqa: E402
from .config import config  # noqa: E402
from .jit import jit  # noqa: E402
from .lost_writes import LostWriteWarning  # noqa: E402
from .ops.arithmetic import (  # noqa: E402
    bitwise_left_shift,
    bitwise_right_shift,
    conj,
    copysign,
    floor_divide,
    imag,
    nextafter,
    real,
    remainder,
    signbit,
    trunc,
)  # fmt: skip
from .ops.arrangement import (  # noqa: E402
    broadcast_arrays,
    broadcast_shapes,
    diagonal,
    moveaxis,
    repeat,
    roll,
    split,
    swapaxes,
    tile,
    trace,
    unstack,
)  # fmt: skip
from .ops.creation import (  # noqa: E402
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    meshgrid,
    one_hot,
    ones,
    ones_like,
    tensor,
    tril,
    triu,
    zeros,
    zeros_like,
)  # fmt: skip
from .ops.datatypes import (  # noqa: E402
    __array_namespace_info__,
    can_cast,
    finfo,
    iinfo,
    isdtype,
    result_type,
)  # fmt: skip
from .ops.decompositions import (  # noqa: E402
    diag,
    norm,
)  # fmt: skip
from .ops.elementary import (  # noqa: E402
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cosh,
    exp2,
    hypot,
    log2,
    log10,
    logaddexp,
    sinh,
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
from .ops.linalg import (  # noqa: E402
    cross,
    einsum,
    matmul,
    outer,
    tensordot,
    vecdot,
)  # fmt: skip
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
    prod,
    std,
    sum,
    var,
)  # fmt: skip
from .ops.sorting import (  # noqa: E402
    argsort,
    count_nonzero,
    cumulative_prod,
    cumulative_sum,
    diff,
    isin,
    median,
    nonzero,
    quantile,
    searchsorted,
    sort,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)  # fmt: skip
from .ops.statistics import (  # noqa: E402
    bincount,
    histogram,
    interp,
    nanmax,
    nanmean,
    nanmin,
    nanprod,
    nanstd,
    nansum,
    nanvar,
)  # fmt: skip
from .random import manual_seed, rand, randint, randn  # noqa: E402
from .tensor import Parameter, Tensor  # noqa: E402
from .transforms import (  # noqa: E402
    axis_index,
    axis_size,
    grad,
    checkpoint,
    custom_jvp,
    custom_vjp,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    linearize,
    pmax,
    pmean,
    pmin,
    psum,
    value_and_grad,
    stop_gradient,
    vjp,
    vmap,
)  # fmt: skip


def __getattr__(name: str) -> object:
    """The modules and packages that are loaded when they are first used."""
    if name in ("data", "nn", "optim", "serialization"):
        from importlib import import_module

        return import_module(f"tracejit.{name}")
    raise AttributeError(f"module 'tracejit' has no attribute {name!r}")


newaxis = None

__all__ = [
    "LostWriteWarning",
    "Parameter", "Tensor", "__array_api_version__", "__array_namespace_info__", "abs", "acos", "acosh", "add", "all",
    "any", "arange", "argmax", "argmin", "argsort", "asarray", "asin", "asinh", "astype", "atan", "atan2", "atanh",
    "autograd", "axis_index", "axis_size", "bfloat16", "bincount", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bool", "broadcast_arrays",
    "broadcast_shapes", "broadcast_to", "can_cast", "ceil", "checkpoint", "clip", "complex128", "complex64", "concat",
    "config", "conj", "copysign", "cos", "cosh", "count_nonzero", "cross", "cumulative_prod", "cumulative_sum",
    "custom_jvp", "custom_vjp", "diag", "diagonal", "diff", "divide", "e", "einsum", "empty", "empty_like",
    "enable_grad", "equal", "erf", "erfinv", "exp", "exp2", "expand_dims", "expm1", "eye", "fft", "finfo", "flatten",
    "flip", "float16", "float32", "float64", "floor", "floor_divide", "from_dlpack", "full", "full_like", "grad",
    "greater", "greater_equal", "hessian", "histogram", "hvp", "hypot", "iinfo", "imag", "inf", "inference_mode",
    "int16", "int32", "int64", "int8", "interp", "is_grad_enabled", "isdtype", "isfinite", "isin", "isinf", "isnan",
    "jacfwd", "jacobian", "jacrev", "jit", "jvp", "less", "less_equal", "linalg", "linearize", "linspace", "log",
    "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp",
    "manual_seed", "matmul", "matrix_transpose", "max", "maximum", "mean", "median", "meshgrid", "min", "minimum",
    "moveaxis", "multiply", "nan", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar", "negative",
    "newaxis", "nextafter", "no_grad", "nonzero", "norm", "not_equal", "one_hot", "ones", "ones_like", "outer", "pad",
    "permute_dims", "pi", "pmax", "pmean", "pmin", "positive", "pow", "prod", "psum", "quantile", "rand", "randint",
    "randn", "random", "real", "reciprocal", "relu", "remainder", "repeat", "reshape", "result_type", "roll", "round",
    "rsqrt", "searchsorted", "set_grad_enabled", "sigmoid", "sign", "signbit", "sin", "sinh", "sort", "split", "sqrt",
    "square", "squeeze", "stack", "std", "stop_gradient", "subtract", "sum", "swapaxes", "take", "take_along_axis",
    "tan", "tanh", "tensor", "tensordot", "tile", "trace", "transpose", "tril", "triu", "trunc", "uint16", "uint32",
    "uint64", "uint8", "unique_all", "unique_counts", "unique_inverse", "unique_values", "unstack", "value_and_grad",
    "var", "vecdot", "vjp", "vmap", "where", "zeros", "zeros_like",
]  # fmt: skip
