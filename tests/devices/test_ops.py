"""Every function of the library's tables on a device: the CPU's bits, for values and for gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tracejit as tj
from tests.devices import DEVICE, GPU, agree
from tests.ops.rows import ROWS
from tests.ops.table import Row
from tracejit.backends.cpu import runtime
from tracejit.backends.cuda import evaluation
from tracejit.backends.cuda.codegen import Entry
from tracejit.backends.cuda.executable import entries
from tracejit.backends.devices import Device, on_host
from tracejit.backends.planning import plan
from tracejit.ir import Builder, Graph, Primitive, TensorType
from tracejit.ir.primitive import View
from tracejit.ir.types import DType, bfloat16, float16, is_differentiable

pytestmark = pytest.mark.usefixtures("gpusim")

# These make a tensor of the CPU's among their operands.
ON_TWO_DEVICES = (
    "take_along_axis", "put_along_axis", "scatter_add", "segment_sum", "searchsorted", "digitize", "isin",
    "bincount weighted", "histogram weighted", "linalg.cholesky", "diff prepend=0.5, append=[[", "ediff1d [",
)  # fmt: skip
TESTED = [row for row in ROWS if not str(row).startswith(ON_TWO_DEVICES)]


# NumPy decomposes and transforms no halves.
HALVES = [row for row in TESTED if row.name.split(".")[0] not in ("linalg", "fft")][::6]


class Kernels:
    """Stands for :func:`evaluation.evaluate`: computes on the CPU, and collects the kernels that would be needed."""

    def __init__(self) -> None:
        self.found: dict[str, Entry] = {}
        self._evaluate = evaluation.evaluate

    def __call__(
        self, primitive: Primitive, arrays: Sequence[Any], attributes: Mapping[str, Any], device: Device
    ) -> Any:
        if isinstance(primitive, View) and len(arrays) == 1:
            return self._evaluate(primitive, arrays, attributes, device)
        graph = Graph(primitive.name)
        builder = Builder(graph)
        operands = [builder.parameter(TensorType(a.dtype, tuple(a.shape))) for a in arrays]
        graph.results = [builder.apply(primitive, operands, attributes)]
        self.found.update({entry.name: entry for entry in entries(plan(graph, specialize=False, host=False))})
        return device.upload(runtime.evaluate(primitive, [on_host(array) for array in arrays], attributes))


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> Callable[[Device], None]:
    """Compiles the kernels of all rows that are tested together, which takes a tenth of the time."""

    @cache
    def compile(device: Device) -> None:
        found = Kernels()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "evaluate", found)
            for item in request.session.items:
                parameters = getattr(item, "callspec", NO_PARAMETERS).params
                if item.path == Path(__file__) and "row" in parameters:
                    results(parameters["row"], DEVICE, parameters.get("half"))
        device.load(list(found.found.values()))

    return compile


NO_PARAMETERS = SimpleNamespace(params={})


def leaves(found: Any) -> list[Any]:
    return [leaf for item in found for leaf in leaves(item)] if isinstance(found, list | tuple) else [found]


def results(row: Row, device: str, half: DType | None = None) -> list[Any]:
    """What a row's function gives for its first shapes, and the gradients of its operands; floats may be halves."""
    dtype = row.differentiated_in if row.gradient else row.dtypes[0]
    arrays = row.operands(row.shapes[0], dtype)
    if half is not None:
        arrays = [array.astype(half) if array.dtype.kind == "f" else array for array in arrays]
    operands = [
        tj.tensor(array, device=device, requires_grad=row.gradient and is_differentiable(array.dtype))
        for array in arrays
    ]
    found = leaves(row.call(*operands))
    wanted = [leaf for leaf in found if isinstance(leaf, tj.Tensor) and leaf.requires_grad]
    gradients: Any = ()
    if wanted:
        ones = [tj.ones_like(leaf) for leaf in wanted]
        needed = [operand for operand in operands if operand.requires_grad]
        gradients = tj.autograd.grad(wanted, needed, ones, allow_unused=True)
    return [*found, *gradients]


def check(row: Row, half: DType | None = None) -> None:
    for found, expected in zip(results(row, DEVICE, half), results(row, "cpu", half), strict=True):
        if isinstance(expected, tj.Tensor):
            assert found.device == GPU
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            assert agree(found.detach().cpu().numpy(), expected.detach().numpy()), (found, expected)
        else:
            assert found == expected or expected is found is None


@pytest.mark.parametrize("row", TESTED, ids=str)
def test_a_function(row: Row, gpusim: Device, kernels: Callable[[Device], None]) -> None:
    kernels(gpusim)
    check(row)


@pytest.mark.parametrize(
    ("row", "half"), [(row, (bfloat16, float16)[number % 2]) for number, row in enumerate(HALVES)], ids=str
)
def test_a_function_of_halves(row: Row, half: DType, gpusim: Device, kernels: Callable[[Device], None]) -> None:
    kernels(gpusim)
    check(row, half)
