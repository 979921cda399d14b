"""Modified Bessel functions of the first kind, times ``exp(-abs(x))``, as scalar programs: in float64 for either type.

Built like the programs in :mod:`.special_functions`; each docstring ends with a bound on the error in ulp.
"""

from __future__ import annotations

import math
from typing import Any

from .scalar import ScalarBuilder
from .special_coefficients import BESSEL_LARGE, BESSEL_SMALL
from .special_functions import _at_most, _polynomial, _with_sign_of, exp
from .types import float64

SMALL = 7.75


def i0e(s: ScalarBuilder, x: Any) -> Any:
    """``exp(-abs(x)) * I0(x)``.  Ulp: 0.6, 2.5."""
    magnitude = s.abs(s.convert(x, float64))
    small, square = _bounded(s, magnitude)
    series = s.fma(square, _polynomial(s, square, BESSEL_SMALL[0]), 1.0)
    near = s.multiply(series, exp(s, s.negate(small)))
    return s.convert(s.select(s.gt(magnitude, SMALL), _far(s, magnitude, 0), near), x.dtype)


def i1e(s: ScalarBuilder, x: Any) -> Any:
    """``exp(-abs(x)) * I1(x)``.  Ulp: 0.6, 2.5."""
    wide = s.convert(x, float64)
    magnitude = s.abs(wide)
    small, square = _bounded(s, magnitude)
    series = s.fma(square, _polynomial(s, square, BESSEL_SMALL[1]), 1.0)
    near = s.multiply(s.multiply(series, s.multiply(small, 0.5)), exp(s, s.negate(small)))
    return s.convert(_with_sign_of(s, wide, s.select(s.gt(magnitude, SMALL), _far(s, magnitude, 1), near)), x.dtype)


def _bounded(s: ScalarBuilder, magnitude: Any) -> tuple[Any, Any]:
    """The magnitude, at most 31/4, and a quarter of its square."""
    small = _at_most(s, magnitude, SMALL)
    return small, s.multiply(s.multiply(small, small), 0.25)


def _far(s: ScalarBuilder, magnitude: Any, order: int) -> Any:
    variable = s.subtract(s.divide(s.constant(2 * SMALL, float64), magnitude), 1.0)
    far = s.divide(_polynomial(s, variable, BESSEL_LARGE[order]), s.sqrt(magnitude))
    return s.select(s.lt(magnitude, math.inf), far, 0.0)
