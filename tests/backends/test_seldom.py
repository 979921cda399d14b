"""Scalar functions that kernels call for few elements (``ScalarBuilder.seldom``): the bits of the program itself."""

from typing import Any

import numpy as np
import pytest

from tests.ir.random_graphs import same_bits
from tests.ir.scalar_evaluator import Evaluator
from tracejit.backends.cpu import compiler, runtime
from tracejit.backends.planning import plan
from tracejit.ir import trigonometric_functions
from tracejit.ir.parser import parse
from tracejit.ir.types import DTYPES_BY_SHORT_NAME

pytestmark = pytest.mark.usefixtures("first_code_only")


def angles(shape: tuple[int, ...], dtype: np.dtype, share: float) -> np.ndarray:
    """Small ones, and a share that are beyond 2**45."""
    random = np.random.default_rng(len(shape))
    exponents = random.uniform(45, np.finfo(dtype).maxexp - 0.1, shape)
    large = np.exp2(exponents) * random.choice([-1, 1], shape)
    return np.where(random.random(shape) < share, large, random.uniform(-4, 4, shape)).astype(dtype)


def results(text: str, *inputs: np.ndarray) -> list[np.ndarray]:
    return runtime.Executable(plan(parse(f"func @f{text}")))(list(inputs))


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("short", ["f32", "f64"])
@pytest.mark.parametrize("name", ["sine", "cosine", "tan"])
def test_elements(name: str, short: str, share: float) -> None:
    program = getattr(trigonometric_functions, {"sine": "sin", "cosine": "cos"}.get(name, name))
    for shape in ((), (1,), (15,), (16,), (100,), (3, 5)):
        x = angles(shape, DTYPES_BY_SHORT_NAME[short], share)
        type = f"{short}[{','.join(map(str, shape))}]"
        (result,) = results(f"(%x: {type}) -> ({type}) {{\n%y = {name} %x : {type}\nreturn %y\n}}", x)
        assert same_bits(result, np.asarray(program(Evaluator(), x)))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(3, 70), (70, 100), (5, 5000)])
def test_inside_reductions(shape: tuple[int, int], axis: int) -> None:
    x = angles(shape, np.dtype(np.float32), 0.02)
    full, kept = (f"f32[{','.join(map(str, s))}]" for s in (shape, shape[:axis] + shape[axis + 1 :]))
    lines = f"%s = sine %x : {full}\n%m = reduce_max %s {{axes=[{axis}]}} : {kept}\nreturn %m\n"
    (result,) = results(f"(%x: {full}) -> ({kept}) {{\n{lines}}}", x)
    sines: Any = trigonometric_functions.sin(Evaluator(), x)
    assert same_bits(result, sines.max(axis))


def test_two_calls_in_one_kernel() -> None:
    x = angles((40,), np.dtype(np.float64), 0.3)
    lines = "%s = sine %x : f64[40]\n%c = cosine %s : f64[40]\n%t = sine %c : f64[40]\nreturn %t\n"
    program = plan(parse(f"func @f(%x: f64[40]) -> (f64[40]) {{\n{lines}}}"))
    (kernel,) = program.kernels
    assert len({function.name for function in kernel.functions}) == 2
    assert all(f"{function.name} %" in kernel.text for function in kernel.functions)
    assert compiler.module_text([kernel, kernel]).count("define internal") == 2
    s = Evaluator()
    (result,) = runtime.Executable(program)([x])
    expected = trigonometric_functions.sin(s, trigonometric_functions.cos(s, trigonometric_functions.sin(s, x)))
    assert same_bits(result, np.asarray(expected))
