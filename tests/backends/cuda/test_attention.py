"""Attention's kernels: near the exact results, the same bits in any order of the threads, and no registers spilled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracejit.backends.cuda import codegen, nvrtc
from tracejit.backends.cuda.executable import entries
from tracejit.backends.planning import plan
from tracejit.backends.program import Program
from tracejit.ir import Builder, Graph, TensorType
from tracejit.ir.primitive import PRIMITIVES
from tracejit.ir.types import DType, bfloat16, bool_, float16, float32

from .shim import shim
from .shim.shim import Module, Order, ShimError
from .test_nvrtc import needs_nvrtc

GOLDEN = Path(__file__).with_name("golden") / "attention.cu"
MOST_BLOCKS = {Order.UP: 1 << 30, Order.DOWN: 1, Order.SHUFFLED: 3}
PARTS = {
    "forward": ("attention", "attention_log_sum"),
    "queries": ("attention_query_gradient",),
    "keys": ("attention_key_gradient", "attention_value_gradient"),
}
needs_shim = pytest.mark.skipif(bool(shim.why_unavailable()), reason=shim.why_unavailable() or "the shim is there")


class Attention:
    """A case: its operands in float64, and the programs that compute the parts."""

    def __init__(
        self, batch: int, heads: int, shared: int, queries: int, keys: int, size: int,
        causal: bool = False, mask: np.ndarray | None = None, dtype: DType = bfloat16,
    ) -> None:  # fmt: skip
        random = np.random.default_rng(queries)
        self.attributes = {"causal": causal, "scale": float(1 / np.sqrt(size))}
        self.mask = () if mask is None else (mask,)
        shapes = [(batch, heads, queries, size), *[(batch, shared, keys, size)] * 2, (batch, heads, queries, size)]
        self.dtype = dtype
        self.given = [random.standard_normal(shape).astype(dtype) for shape in shapes]
        q, k, v, cotangent = (x.astype(np.float64) for x in self.given)
        wide = [x if x.dtype == bool_ else x.astype(np.float64) for x in self.mask]
        output = self.exact("attention", q, k, v, *wide)
        log_sum = self.exact("attention_log_sum", q, k, *wide)
        gradient = (q, k, v, cotangent, log_sum, (output * cotangent).sum(-1), *wide)
        self.operands = {
            "attention": (q, k, v, *wide),
            "attention_log_sum": (q, k, *wide),
            **{name: gradient for part in ("queries", "keys") for name in PARTS[part]},
        }

    def exact(self, name: str, *operands: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return PRIMITIVES[name].evaluate(*operands, **self.attributes)

    def inputs(self, part: str) -> list[np.ndarray]:
        found = []
        for number, x in enumerate(self.operands[PARTS[part][0]]):
            is_given = number < (3 if part == "forward" else 4)
            found.append(x.astype(self.dtype) if is_given else x if x.dtype == bool_ else x.astype(np.float32))
        return found

    def program(self, part: str) -> Program:
        graph = Graph(f"attention_{part}")
        builder = Builder(graph)
        operands = [builder.parameter(TensorType(x.dtype, x.shape)) for x in self.inputs(part)]
        for name in PARTS[part]:
            own = [*operands[:2], *operands[3:]] if name == "attention_log_sum" else operands
            graph.results.append(builder.apply(PRIMITIVES[name], own, self.attributes))
        return plan(graph, host=False)

    def differences(self, part: str, module: Module) -> list[str]:
        """The orders in which the results are not the first one's, or not near the exact ones."""
        program, wrong, first = self.program(part), [], None
        for order in Order:
            results = shim.run(program, module, self.inputs(part), order, MOST_BLOCKS[order])
            first = first or [result.copy() for result in results]
            for name, result, other in zip(PARTS[part], results, first, strict=True):
                exact = self.exact(name, *self.operands[name])
                if result.tobytes() != other.tobytes():
                    wrong.append(f"{name}: other bits, {order.name}")
                finite = np.isfinite(exact)
                error = np.abs(result.astype(np.float64)[finite] - exact[finite]).max()
                if not error <= 4 * float(np.finfo(np.float16).eps if self.dtype == float16 else 2**-7) or (
                    not np.array_equal(result.astype(np.float64)[~finite], exact[~finite])
                ):
                    wrong.append(f"{name}: wrong by {error}, {order.name}")
        return wrong


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def nowhere(queries: int, keys: int) -> np.ndarray:
    """A mask by which some queries look nowhere."""
    mask = drawn(1, 2, queries, keys) > -0.5
    mask[:, :, 3:5] = False
    return mask


CASES: dict[str, Attention] = {
    "full": Attention(1, 2, 2, 33, 100, 32),
    "causal": Attention(1, 2, 1, 70, 67, 32, causal=True),
    "more keys than queries": Attention(2, 1, 1, 5, 130, 16, causal=True, dtype=float16),
    "masked": Attention(1, 2, 1, 66, 40, 64, mask=nowhere(66, 40)),
    "with a bias": Attention(2, 2, 2, 40, 66, 16, mask=drawn(2, 1, 1, 66)),
    "large heads": Attention(1, 1, 1, 17, 20, 128),
}


def source(case: Attention, *parts: str) -> str:
    return codegen.module_source([entry for part in parts for entry in entries(case.program(part))])


def test_a_kernel_for_each_part() -> None:
    names = [[call.kernel.title for call in CASES["causal"].program(part).calls] for part in PARTS]  # type: ignore[union-attr]
    assert names == [["attention_forward"], ["attention_queries"], ["attention_keys"]]


@needs_shim
@pytest.mark.parametrize("name", CASES)
def test_near_the_exact_results(name: str, shim_folder: Path) -> None:
    module = Module(source(CASES[name], *PARTS), shim_folder)
    for part in PARTS:
        assert CASES[name].differences(part, module) == []


@needs_shim
def test_one_at_a_time(shim_folder: Path) -> None:
    """An op whose sibling is not wanted gives the bits that both have together."""
    case = CASES["causal"]
    for part in ("forward", "keys"):
        both = case.program(part)
        expected = shim.run(both, Module(source(case, part), shim_folder), case.inputs(part), Order.UP)
        for name, result in zip(PARTS[part], expected, strict=True):
            graph = Graph(name)
            builder = Builder(graph)
            inputs = [x for n, x in enumerate(case.inputs(part)) if name != "attention_log_sum" or n != 2]
            operands = [builder.parameter(TensorType(x.dtype, x.shape)) for x in inputs]
            graph.results = [builder.apply(PRIMITIVES[name], operands, case.attributes)]
            alone = plan(graph, host=False)
            module = Module(codegen.module_source(entries(alone)), shim_folder)
            assert shim.run(alone, module, inputs, Order.UP)[0].tobytes() == result.tobytes()


BARRIER = "__syncthreads();"
FAULTS = {
    "a tile read too early": (
        "masked",
        "forward",
        f"tj_wait<0>();\n      }}\n      {BARRIER}",
        "tj_wait<0>();\n      }",
    ),
    "copies not waited for": ("causal", "forward", "tj_wait<1>();", "tj_wait<2>();"),
    "a tile overwritten": ("full", "forward", f"v + now);\n      {BARRIER}", "v + now);"),
    "keys that there are not": ("masked", "forward", "column >= columns", "false"),
    "keys that come later": ("causal", "queries", "CAUSAL && column > row + ahead", "false"),
    "values by rows": ("full", "forward", "tj_columns_of(b", "tj_rows_of(b"),
    "sums not scaled down": ("full", "forward", "sums[n][2 * half] *= decay, ", ""),
    "the mask's rows": ("masked", "keys", "tile[query * row", "tile[query"),
    "queries that look nowhere": ("masked", "keys", "norm == none ? -none", "norm == none ? none"),
    "one of the heads that share a key": ("causal", "keys", "h < shared * group + group", "h < shared * group + 1"),
    "norms written too early": ("causal", "keys", f"        }}\n        {BARRIER}\n      }}", "        }\n      }"),
    "one row too many": ("full", "queries", "if (row >= extent) continue;", "if (row > extent) continue;"),
}


@needs_shim
@pytest.mark.parametrize("fault", FAULTS)
def test_the_shim_notices(fault: str, shim_folder: Path) -> None:
    name, part, old, new = FAULTS[fault]
    text = source(CASES[name], part)
    assert old in text, "the kernels' text has changed: so must this test"
    module = Module(text.replace(old, new), shim_folder)
    with suppress(ShimError):
        assert CASES[name].differences(part, module) != []


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_no_registers_are_spilled(arch: str) -> None:
    settings: dict[int, dict[str, Any]] = {64: {"mask": drawn(1, 1, 3, 5) > 0}, 128: {"causal": True}}
    cases = [Attention(1, 2, 1, 3, 5, size, **settings[size]) for size in settings]
    texts = [codegen.module_source(entries(case.program(part))) for part in PARTS for case in cases]
    with ThreadPoolExecutor(2) as pool:
        reports = [
            report for _, found in pool.map(lambda t: nvrtc.compile_to_cubin(t, arch), texts) for report in found
        ]
    assert len(reports) == len(texts)
    assert [report for report in reports if report.stack_bytes or report.spill_bytes] == []


def test_golden(request: pytest.FixtureRequest) -> None:
    text = source(CASES["causal"], *PARTS)
    if request.config.getoption("update_golden", default=False):
        GOLDEN.write_text(text, encoding="utf-8")
    expected = GOLDEN.read_text(encoding="utf-8") if GOLDEN.exists() else ""
    assert text == expected, f"{GOLDEN.name} differs; if that is meant: pytest tests/backends/cuda --update-golden"


def test_what_kernels_take() -> None:
    """The rest goes by the decomposition."""
    from tracejit.backends.attention import takes

    def of(size: int, dtype: DType, *masks: DType) -> bool:
        rows = TensorType(dtype, (1, 2, 3, size))
        return takes([rows, rows, rows, *(TensorType(mask, (1, 1, 3, 3)) for mask in masks)])

    assert of(64, bfloat16)
    assert of(48, float16, bool_)
    assert of(128, float16, float32)
    assert not of(64, float32)
    assert not of(40, bfloat16)
    assert not of(256, bfloat16)
    assert not of(64, bfloat16, float16)
