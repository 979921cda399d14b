"""NumPy's functions on tensors: ufuncs are the library's own, the rest works on arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits
from tracejit.numpy_protocol import counterpart

UFUNCS = sorted(
    {item for name in dir(np) if isinstance(item := getattr(np, name), np.ufunc)}, key=lambda ufunc: ufunc.__name__
)
WITHOUT = {
    "bitwise_count", "cbrt", "divmod", "fabs", "float_power", "fmod", "frexp", "gcd", "isnat", "lcm", "ldexp",
    "logaddexp2", "matvec", "modf", "spacing", "vecmat",
}  # fmt: skip


def test_every_ufunc_has_a_counterpart_or_is_known_to_have_none() -> None:
    assert {ufunc.__name__ for ufunc in UFUNCS if counterpart(ufunc) is None} == WITHOUT


@pytest.mark.parametrize("ufunc", [u for u in UFUNCS if u.__name__ not in WITHOUT], ids=lambda u: u.__name__)
def test_a_ufunc_is_the_function_of_its_meaning(ufunc: np.ufunc) -> None:
    numbers = [np.array([0.25, 0.5, 0.75], np.float32), np.array([0.5, 0.125, 1.0], np.float32)][: ufunc.nin]
    if ufunc.__name__ in ("bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"):
        numbers = [(x * 8).astype(np.int32) for x in numbers]
    if ufunc.__name__ == "arccosh":
        numbers = [x + 1 for x in numbers]
    result = ufunc(*map(tj.tensor, numbers))
    assert isinstance(result, tj.Tensor)
    assert same_bits(np.asarray(result), np.asarray(counterpart(ufunc)(*map(tj.tensor, numbers))))
    np.testing.assert_allclose(np.asarray(result), ufunc(*numbers), rtol=1e-6)


def test_operators_of_arrays_and_tensors_give_tensors() -> None:
    array, tensor = np.array([1.0, 2.0], np.float32), tj.tensor([3.0, 4.0])
    for result in (array + tensor, array @ tensor, array == tensor, np.float64(2) * tensor, np.add([1, 2], tensor)):
        assert isinstance(result, tj.Tensor)
    assert (np.float64(2) * tensor).dtype == tj.float32
    array += tensor
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [4.0, 6.0]
    tensor += array
    assert tensor.tolist() == [7.0, 10.0]


def test_ufuncs_record_gradients_and_are_traced() -> None:
    def function(x: Any) -> Any:
        return np.tanh(x) * np.array([1.0, 2.0], np.float32)

    x = tj.tensor([0.5, -0.5], requires_grad=True)
    function(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(np.asarray(x.grad), np.array([1, 2]) * (1 - np.tanh(0.5) ** 2), rtol=1e-6)
    compiled = tj.jit(function)
    assert "tanh" in str(compiled.ir(x.detach()))
    assert same_bits(np.asarray(compiled(x.detach())), np.asarray(function(x.detach())))


@pytest.mark.parametrize(
    "call",
    [
        np.sum, np.mean, np.std, np.max, np.argsort, np.linalg.norm, np.round, np.ravel, np.cbrt, np.add.reduce,
        lambda x: np.concatenate([x, x]), lambda x: np.stack((x, np.ones(2))), lambda x: np.exp(x, dtype=np.float64),
        lambda x: np.clip(x, 1, 2), lambda x: np.divmod(x, 2)[1], lambda x: np.interp(x, xp=x, fp=x), np.array,
    ],
)  # fmt: skip
def test_other_functions_work_on_arrays(call: Callable[[Any], Any]) -> None:
    numbers = np.array([2.5, 1.5], np.float32)
    result = call(tj.tensor(numbers))
    assert isinstance(result, np.ndarray | np.generic)
    np.testing.assert_array_equal(result, call(numbers))
    with pytest.raises(RuntimeError, match=r"requires grad. Use tensor.detach\(\).numpy\(\) instead"):
        call(tj.tensor(numbers, requires_grad=True))


def test_a_tensor_is_no_place_for_results() -> None:
    x = tj.ones(2)
    for call in (lambda: np.add(x, 1, out=x), lambda: np.add.at(x, [0], 1.0), lambda: np.add.reduce(x, out=x)):
        with pytest.raises(TypeError, match="add: an array can be changed in place, not a Tensor"):
            call()
    assert x.tolist() == [1.0, 1.0]


def test_functions_on_arrays_inside_a_jitted_function() -> None:
    """They ask for the values."""

    @tj.jit
    def function(x: Any) -> Any:
        return x + np.sum(x)

    for numbers in ([1.0, 2.0], [3.0, 4.0]):
        assert function(tj.tensor(numbers)).tolist() == [n + sum(numbers) for n in numbers]
