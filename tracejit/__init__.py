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
from typing import TYPE_CHECKING as _TYPE_CHECKING

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

from . import autograd, debug, fft, linalg, random  # noqa: E402
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # noqa: E402
from .config import config, get_num_threads, set_num_threads  # noqa: E402
from .control import (  # noqa: E402
    associative_scan,
    cond,
    fori_loop,
    map,
    scan,
    switch,
    while_loop,
)  # fmt: skip
from .jit import jit  # noqa: E402
from .lost_writes import LostWriteWarning  # noqa: E402
from .ops.arithmetic import (  # noqa: E402
    angle,
    bitwise_left_shift,
    bitwise_right_shift,
    conj,
    copysign,
    deg2rad,
    floor_divide,
    fmax,
    fmin,
    heaviside,
    imag,
    nan_to_num,
    nextafter,
    rad2deg,
    real,
    remainder,
    signbit,
    trunc,
)  # fmt: skip
from .ops.arrangement import (  # noqa: E402
    array_split,
    broadcast_arrays,
    broadcast_shapes,
    diagonal,
    fliplr,
    flipud,
    moveaxis,
    ravel,
    repeat,
    roll,
    rot90,
    split,
    swapaxes,
    tile,
    trace,
    unstack,
)  # fmt: skip
from .ops.comparison import (  # noqa: E402
    allclose,
    array_equal,
    isclose,
)  # fmt: skip
from .ops.counting import (  # noqa: E402
    bincount,
    histogram,
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
from .ops.cumulative import (  # noqa: E402
    cummax,
    cummin,
    cumprod,
    cumsum,
    cumulative_prod,
    cumulative_sum,
    logcumsumexp,
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
    expit,
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
from .ops.grids import (  # noqa: E402
    geomspace,
    logspace,
    tril_indices,
    triu_indices,
    unravel_index,
    vander,
)  # fmt: skip
from .ops.indexing import take, take_along_axis  # noqa: E402
from .ops.joining import (  # noqa: E402
    append,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    block,
    column_stack,
    dstack,
    hstack,
    vstack,
)  # fmt: skip
from .ops.linalg import (  # noqa: E402
    cross,
    dot,
    einsum,
    inner,
    kron,
    matmul,
    outer,
    tensordot,
    vdot,
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
from .ops.quantiles import (  # noqa: E402
    median,
    nanmedian,
    nanpercentile,
    nanquantile,
    percentile,
    quantile,
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
from .ops.scattering import (  # noqa: E402
    put_along_axis,
    scatter_add,
    segment_sum,
)  # fmt: skip
from .ops.sets import (  # noqa: E402
    isin,
    unique,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)  # fmt: skip
from .ops.signals import (  # noqa: E402
    convolve,
    correlate,
    diff,
    ediff1d,
    gradient,
    interp,
    polyval,
    trapezoid,
)  # fmt: skip
from .ops.sorting import (  # noqa: E402
    argpartition,
    argsort,
    argwhere,
    count_nonzero,
    digitize,
    flatnonzero,
    lexsort,
    nonzero,
    partition,
    searchsorted,
    sort,
    topk,
)  # fmt: skip
from .ops.special import (  # noqa: E402
    digamma,
    erfc,
    erfcx,
    gammaln,
    i0,
    i0e,
    i1,
    i1e,
    lgamma,
    log_ndtr,
    log_softmax,
    logit,
    ndtr,
    polygamma,
    sinc,
    softmax,
    softplus,
    xlogy,
)  # fmt: skip
from .ops.statistics import (  # noqa: E402
    average,
    corrcoef,
    cov,
    nanargmax,
    nanargmin,
    nancumprod,
    nancumsum,
    nanmax,
    nanmean,
    nanmin,
    nanprod,
    nanstd,
    nansum,
    nanvar,
    ptp,
)  # fmt: skip
from .precompilation import precompile  # noqa: E402
from .random import manual_seed, rand, randint, randn  # noqa: E402
from .tensor import Parameter, Tensor  # noqa: E402
from .transforms import (  # noqa: E402
    axis_index,
    axis_size,
    checkpoint,
    checkpoint_name,
    checkpoint_policies,
    custom_jvp,
    custom_vjp,
    grad,
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
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)  # fmt: skip
from .tree import register_container  # noqa: E402

if _TYPE_CHECKING:
    from .serialization import load as load, save as save


def __getattr__(name: str) -> object:
    """The modules and packages that are loaded when they are first used."""
    from importlib import import_module

    if name in ("data", "nn", "optim", "serialization"):
        return import_module(f"tracejit.{name}")
    if name in ("load", "save"):
        return getattr(import_module("tracejit.serialization"), name)
    raise AttributeError(f"module 'tracejit' has no attribute {name!r}")


newaxis = None

__all__ = [
    "LostWriteWarning", "Parameter", "Tensor", "__array_api_version__", "__array_namespace_info__", "abs", "acos",
    "acosh", "add", "all", "allclose", "angle", "any", "append", "arange", "argmax", "argmin", "argpartition",
    "argsort", "argwhere", "array_equal", "array_split", "asarray", "asin", "asinh", "associative_scan", "astype",
    "atan", "atan2", "atanh", "atleast_1d", "atleast_2d", "atleast_3d", "autograd", "average", "axis_index",
    "axis_size", "bfloat16", "bincount", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "block", "bool", "broadcast_arrays", "broadcast_shapes", "broadcast_to",
    "can_cast", "ceil", "checkpoint", "checkpoint_name", "checkpoint_policies", "clip", "column_stack", "complex128",
    "complex64", "concat", "cond", "config", "conj", "convolve", "copysign", "corrcoef", "correlate", "cos", "cosh",
    "count_nonzero", "cov", "cross", "cummax", "cummin", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum",
    "custom_jvp", "custom_vjp", "debug", "deg2rad", "diag", "diagonal", "diff", "digamma", "digitize", "divide", "dot",
    "dstack", "e", "ediff1d", "einsum", "empty", "empty_like", "enable_grad", "equal", "erf", "erfc", "erfcx", "erfinv",
    "exp", "exp2", "expand_dims", "expit", "expm1", "eye", "fft", "finfo", "flatnonzero", "flatten", "flip", "fliplr",
    "flipud", "float16", "float32", "float64", "floor", "floor_divide", "fmax", "fmin", "fori_loop", "from_dlpack",
    "full", "full_like", "gammaln", "geomspace", "get_num_threads", "grad", "gradient", "greater", "greater_equal",
    "heaviside", "hessian", "histogram", "hstack", "hvp", "hypot", "i0", "i0e", "i1", "i1e", "iinfo", "imag", "inf",
    "inference_mode", "inner", "int16", "int32", "int64", "int8", "interp", "is_grad_enabled", "isclose", "isdtype",
    "isfinite", "isin", "isinf", "isnan", "jacfwd", "jacobian", "jacrev", "jit", "jvp", "kron", "less", "less_equal",
    "lexsort", "lgamma", "linalg", "linearize", "linspace", "log", "log10", "log1p", "log2", "log_ndtr", "log_softmax",
    "logaddexp", "logcumsumexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logspace",
    "logsumexp", "manual_seed", "map", "matmul", "matrix_transpose", "max", "maximum", "mean", "median", "meshgrid",
    "min", "minimum", "moveaxis", "multiply", "nan", "nan_to_num", "nanargmax", "nanargmin", "nancumprod", "nancumsum",
    "nanmax", "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar",
    "ndtr", "negative", "newaxis", "nextafter", "no_grad", "nonzero", "norm", "not_equal", "one_hot", "ones",
    "ones_like", "outer", "pad", "partition", "percentile", "permute_dims", "pi", "pmax", "pmean", "pmin", "polygamma",
    "polyval", "positive", "pow", "precompile", "prod", "psum", "ptp", "put_along_axis", "quantile", "rad2deg", "rand",
    "randint", "randn", "random", "ravel", "real", "reciprocal", "register_container", "relu", "remainder", "repeat",
    "reshape", "result_type", "roll", "rot90", "round", "rsqrt", "scan", "scatter_add", "searchsorted", "segment_sum",
    "set_grad_enabled", "set_num_threads", "sigmoid", "sign", "signbit", "sin", "sinc", "sinh", "softmax", "softplus",
    "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "stop_gradient", "subtract", "sum", "swapaxes",
    "switch", "take", "take_along_axis", "tan", "tanh", "tensor", "tensordot", "tile", "topk", "trace", "transpose",
    "trapezoid", "tril", "tril_indices", "triu", "triu_indices", "trunc", "uint16", "uint32", "uint64", "uint8",
    "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values", "unravel_index", "unstack",
    "value_and_grad", "vander", "var", "vdot", "vecdot", "vjp", "vmap", "vstack", "where", "while_loop", "xlogy",
    "zeros", "zeros_like",
]  # fmt: skip
