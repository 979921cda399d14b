"""The printed CUDA C means what the CPU's kernels mean, to the bit: it is run on the CPU by the shim.

Each program runs in three orders of its threads and on different numbers of blocks.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.ir.random_graphs import BACKEND_OPS, random_arguments, random_graphs, same_bits
from tracejit.backends import kernel as k
from tracejit.backends.cpu import runtime
from tracejit.backends.cuda import codegen, forms, instructions
from tracejit.backends.cuda.executable import entries
from tracejit.backends.planning import plan
from tracejit.backends.program import KernelCall, Program
from tracejit.ir.types import (
    DTYPES_BY_SHORT_NAME,
    DType,
    bfloat16,
    bool_,
    complex64,
    float16,
    float32,
    float64,
    int32,
    uint8,
)

from .programs import CASES, INTEGERS, Case, entries_of, functions, programs, reference
from .shim import shim
from .shim.shim import Guarded, Module, Order, ShimError

GOLDEN = Path(__file__).with_name("golden")
MODULES = 8  # the kernels of all cases are compiled in so many
MOST_BLOCKS = {Order.UP: forms.MAX_BLOCKS, Order.DOWN: 1, Order.SHUFFLED: 3}

needs_shim = pytest.mark.skipif(bool(shim.why_unavailable()), reason=shim.why_unavailable() or "the shim is there")


@pytest.fixture(scope="session")
def module_of(shim_folder: Path) -> Callable[[Case], Module]:
    """The compiled module that holds a case's kernels; all are compiled at the first use."""
    names = list(CASES)
    groups = [names[first::MODULES] for first in range(MODULES)]

    def compile(group: list[str]) -> Module:
        return Module(
            codegen.module_source([entry for name in group for entry in entries_of(CASES[name])]), shim_folder
        )

    with ThreadPoolExecutor(2) as pool:
        modules = list(pool.map(compile, groups))
    return lambda case: modules[names.index(case.name) % MODULES]


def differences(
    program: Program, module: Module, inputs: list[np.ndarray], reference: Program | None = None
) -> list[str]:
    """The orders in which the results are not the CPU backend's, of the program or of what it has in its place."""
    expected = runtime.Executable(reference or program)(inputs)
    wrong = []
    for order in Order:
        results = shim.run(program, module, inputs, order, MOST_BLOCKS[order])
        if not all(same_bits(result, other) for result, other in zip(results, expected, strict=True)):
            wrong.append(f"{order.name}: {results} but on the CPU {expected}")
    return wrong


@needs_shim
@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_the_cpus(name: str, module_of: Callable[[Case], Module]) -> None:
    tested = CASES[name]
    for how, program in programs(tested).items():
        assert differences(program, module_of(tested), tested.inputs(), reference(tested)) == [], how


@needs_shim
def test_long_rows_by_warps(shim_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there are many of them."""
    monkeypatch.setattr(forms, "FEW_ROWS", 0)
    monkeypatch.setattr(forms, "FEW_POINTS", 0)
    monkeypatch.setattr(codegen, "_launches", {})
    tested = CASES["sums of rows of 9000"]
    program = programs(tested)["for any shape"]
    (entry,) = entries(program)
    assert entry.form.kind == "warp"
    assert differences(program, Module(codegen.module_source([entry]), shim_folder), tested.inputs()) == []


@pytest.mark.parametrize(
    ("name", "kind", "threads"),
    [
        ("softmax of rows of 33", "held", 32),
        ("layer norm of rows of 900", "held", 128),
        ("softmax of rows of 4096", "held", 256),
        ("softmax of rows of 9000", "held", 1024),
        ("softmax of rows of 20000", "shared row", 0),
        ("softmax of rows of 60000", "row", None),
        ("softmax of rows of 32768 bf16", "held", 1024),
        ("softmax of rows of 60000 bf16", "shared row", 0),
    ],
)
def test_where_rows_are_held(name: str, kind: str, threads: int | None) -> None:
    (entry,) = entries(programs(CASES[name])["for any shape"])
    assert entry.form.kind == kind
    assert (entry.form.held.threads if entry.form.held else None) == threads


@needs_shim
def test_rows_that_are_not_aligned(shim_folder: Path) -> None:
    """As the slices that a loop takes may be: they are read and written element by element."""
    tested = CASES["layer norm of rows of 2048"]
    (entry,) = entries(programs(tested)["for any shape"])
    (call,) = programs(tested)["for any shape"].calls
    assert isinstance(call, KernelCall)
    sizes = [value.type.nbytes for value in call.buffers]
    given = dict(zip(programs(tested)["for any shape"].inputs, tested.inputs(), strict=True))
    found = []
    for shift in (0, 4):
        buffers = [Guarded(size + shift) for size in sizes]
        for buffer, value in zip(buffers, call.buffers, strict=True):
            if value.op is None:
                buffer.bytes[shift:].view(value.dtype)[...] = given[value.type].reshape(-1)
        arguments = [*(buffer.address + shift for buffer in buffers), *call.parameters]
        Module(codegen.module_source([entry]), shim_folder).launch(entry, 3, arguments, Order.SHUFFLED)
        found.append([buffer.bytes[shift:].tobytes() for buffer in buffers])
    assert found[0] == found[1]


def test_rows_in_the_shared_memory_that_there_is() -> None:
    (call,) = programs(CASES["softmax of rows of 20000"])["for any shape"].calls
    assert isinstance(call, KernelCall)
    kinds = {arch: codegen.launch_of(call.kernel, call.parameters, arch).entry.form.kind for arch in ("sm_80", "sm_89")}
    assert kinds == {"sm_80": "shared row", "sm_89": "shared row"}
    longer = [30_000 if value == 20_000 else value for value in call.parameters]
    kinds = {arch: codegen.launch_of(call.kernel, longer, arch).entry.form.kind for arch in ("sm_80", "sm_89")}
    assert kinds == {"sm_80": "shared row", "sm_89": "row"}


# What no primitive uses yet ----------------------------------------------------------------------------------


def binary_kernel(name: str, dtype: DType) -> k.Kernel:
    """``b2[i] = name(b0[i], b1[i])``."""
    x, y, result = k.Scalar(dtype), k.Scalar(dtype), k.Scalar(dtype)
    here = k.Address(0, {"i0": 1})
    body = [
        k.Load("b0", here, x),
        k.Load("b1", here, y),
        k.Instruction(name, (x, y), result),
        k.Store("b2", here, result),
    ]
    buffers = [k.Buffer("b0", dtype), k.Buffer("b1", dtype), k.Buffer("b2", dtype, written=True)]
    return k.Kernel(buffers, ["n0"], [k.Loop("i0", "n0", frozenset(("parallel", "vector")), body)], f"{name}_{dtype}")


def exactly(name: str, x: int, y: int) -> int:
    match name:
        case "quotient":
            return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        case "remainder":
            return x - y * exactly("quotient", x, y)
    return x << y if name == "shift_left" else x >> y


@needs_shim
def test_integer_instructions(shim_folder: Path) -> None:
    names = ("quotient", "remainder", "shift_left", "shift_right")
    table = {
        (name, dtype): binary_kernel(name, dtype)
        for name in names
        for dtype in map(DTYPES_BY_SHORT_NAME.__getitem__, INTEGERS)
    }
    functions = {key: codegen.launch_of(kernel, [1]).entry for key, kernel in table.items()}
    module = Module(codegen.module_source(functions.values()), shim_folder)
    for (name, dtype), entry in functions.items():
        limits, bits = np.iinfo(dtype), 8 * dtype.itemsize
        numbers = [limits.min, limits.max, 0, 1, 7, 100] + [-1, -7, -100] * (limits.min < 0)
        seconds = [0, 1, bits - 1] if name.startswith("shift") else [y for y in numbers if y]
        pairs = [(x, y) for x in numbers for y in seconds]
        wrapped = [(exactly(name, x, y) - limits.min) % (1 << bits) + limits.min for x, y in pairs]
        buffers = [Guarded(len(pairs) * dtype.itemsize) for _ in range(3)]
        for number in (0, 1):
            buffers[number].bytes.view(dtype)[...] = [pair[number] for pair in pairs]
        arguments = [*(buffer.address for buffer in buffers), len(pairs)]
        module.launch(entry, 1, arguments, Order.UP)
        assert buffers[2].bytes.view(dtype).tolist() == wrapped, (name, dtype)


# Random programs --------------------------------------------------------------------------------------------

DTYPES = (float32, float32, float64, int32, bool_, uint8)
FAMILIES = {  # the number of ops, the extents, the size of the largest value, and the dtypes
    "small": (12, (0, 1, 1, 2, 3, 5, 16, 17, 31, 33, 64), 3000, DTYPES),
    "long": (6, (1, 2, 3, 100, 1021, 4096, 4097, 5000), 20_000, DTYPES),
    "halves": (8, (1, 2, 3, 17, 33, 64, 1024), 3000, (bfloat16, bfloat16, float16, float32, int32, bool_)),
}


def random_programs(family: str) -> list[tuple[Program, list[np.ndarray], Program | None]]:
    """Programs made of kernels alone, inputs, and what the CPU runs in their place; the same ones each time."""
    drawn = []

    @settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        max_ops, extents, max_size, dtypes = FAMILIES[family]
        graph = data.draw(random_graphs(max_ops, dtypes, extents, max_size, BACKEND_OPS, all_alive=True))
        others = plan(graph) if family == "halves" else None
        drawn.append((plan(graph, host=False), data.draw(random_arguments(graph)), others))

    draw()
    return [
        (program, inputs, others)
        for program, inputs, others in drawn
        if all(isinstance(call, KernelCall) for call in program.calls)
    ]


@needs_shim
@pytest.mark.parametrize("family", FAMILIES)
def test_random_programs(family: str, shim_folder: Path) -> None:
    drawn = random_programs(family)
    entries = [entry for program, _, _ in drawn for entry in functions(program)]
    module = Module(codegen.module_source(entries), shim_folder)
    for program, inputs, others in drawn:
        assert differences(program, module, inputs, others) == [], program


# What the shim would notice ---------------------------------------------------------------------------------

BARRIER = "__syncthreads();"
FAULTS = {
    "first barrier left out": ("sums of columns of 33", BARRIER, "", 1),
    "second barrier left out": ("softmax of columns of 40", f"v1;\n    {BARRIER}", "v1;", 1),
    "no barrier in a divergent branch": ("sums of columns of 33", BARRIER, f"if (lane < 3) {BARRIER}", 1),
    "shuffle in a divergent branch": (
        "sums of rows of 33",
        "#pragma unroll\n    for (int half",
        "if (lane < 20)\n    for (int half",
        1,
    ),
    "lanes folded in pairs": (
        "sums of rows of 33",
        "half = 16; half > 0; half /= 2",
        "half = 1; half < 32; half *= 2",
        1,
    ),
    "blocks not dealt out to the lanes": ("softmax of rows of 60000", "round + lane * 4096ll < n1", "lane == 0", 1),
    "a row's first barrier left out": ("softmax of rows of 60000", BARRIER, "", 1),
    "a row's last barrier left out": ("softmax of rows of 60000", f"}}\n      {BARRIER}\n    }}", "}\n    }", 1),
    "the warps' results read too early": (
        "softmax of rows of 60000",
        f"[warp] = v1;\n    {BARRIER}",
        "[warp] = v1;",
        1,
    ),
    "a held row summed too early": ("softmax of rows of 4096", f"{BARRIER}\n    for (int b", "for (int b", 1),
    "a held row's sums read too early": ("softmax of rows of 4097", f"}}\n    {BARRIER}\n    if", "}\n    if", 1),
    "a held row read beyond its end": ("layer norm of rows of 900", "if (start < n1)", "", 1),
    "a row in shared memory used too early": ("softmax of rows of 20000", f"n1);\n    {BARRIER}", "n1);", 1),
    "a row in shared memory overwritten": ("softmax of rows of 20000", f"{BARRIER}  //", "//", 1),
    "not the last to finish reduces the rest": ("several reductions of all", "== groups - 1", "== groups - 2", 1),
    "results of one place": ("several reductions of all", "* 8))[place * blocks + block]", "* 8))[0]", 1),
    "counters are left": ("columns of many blocks", "counters[tile] = 0", "counters[tile] = 1", 1),
    "a block of rows left out": (
        "columns of many blocks",
        "item % tiles, block = item / tiles",
        "item % tiles, block = 0",
        1,
    ),
    "too little shared memory": ("softmax of rows of 20000", "+ i1", "+ i1 + 1", 1),
    "one element too many": ("gelu", "i0 < n0", "i0 <= n0", 1),
    "one group of neighbours too many": ("gelu", "group < done / 4", "group <= done / 4", 1),
    "the rest left out": ("random bits", "long long i0 = done +", "long long i0 = n0 +", 1),
    "neighbours not counted from the first": ("random bits", "start + e", "start", 1),
    "alignment not looked at": ("random bits", "(unsigned long long)b2 % 16 == 0", "true", 1),
    "one element of a row too many": ("sums of rows of 31", "next < end", "next <= end", 1),
    "updates carried out twice": ("scatter add of elements", "if (is_taken) continue;", "", 1),
    "later updates left out": ("scatter add of many rows", "first < updates", "first < own + 128", 1),
    "updates of two rounds mixed": ("scatter add of many rows", f"}}\n      {BARRIER}", "}", 1),
    "sorted updates of a warp not in order": ("scatter add of thousands of rows", "peers & (", "peers & ~(", 1),
    "sorted updates of a digit in one place": (
        "scatter add of thousands of rows",
        "if (peers >> lane == 1) starts",
        "if (false) starts",
        1,
    ),
    "digits counted too late": (
        "scatter add of thousands of rows",
        f"1u);\n    {BARRIER}\n    unsigned int start",
        "1u);\n    unsigned int start",
        1,
    ),
    "what is before a digit left out": ("scatter add of thousands of rows", "if (lane >= step) up_to += other;", "", 1),
    "the last part of a window": ("scatter add of wide rows", "item % parts * 128", "0", 1),
    "the first of the updates that replace": (
        "scatter set of thousands of elements",
        "at = end - 1; at < end",
        "at = first; at < first + 1",
        1,
    ),
    "steps of a scan not in order": ("running sums of f32[5,70]", "own_v1, step", "own_v1, 31 - step", 1),
    "what a step leaves is forgotten": ("running sums of f32[70,40]", "v0 = next0", "v0 = v0", 1),
    "a tile read too early": ("transpose", BARRIER, "", 1),
    "a tile overwritten": ("transpose of four axes", f"}}\n    {BARRIER}\n  }}", "}\n  }", 1),
    "a tile read across": ("transpose", "[side][step]", "[step][side]", 1),
    "halves of a register in the wrong order": (
        "layer norm bf16",
        "tj_get(w0.e[e / 2], e)",
        "tj_get(w0.e[e / 2], e + 1)",
        1,
    ),
    "a half that is not rounded": ("mixed precision", "tj_from_bf16(v6)", "v5", 2),
    "a half that is cut off": ("mixed precision", "tj_to_bf16(v5)", "(unsigned short)(__float_as_int(v5) >> 16)", 2),
    "a sum of halves in halves": ("row reductions of bf16", "+ other", "+ tj_from_bf16(tj_to_bf16(other))", 1),
    "float64 rounded twice": ("conversions to f16", "tj_odd(v", "(float)(v", 1),
    "steps that are not rounded": ("running sums of f16", "const float v2 = tj_from_f16(v0)", "const float v2 = v0", 1),
    "parts of complex numbers mixed up": ("arithmetic c64", ".e[1]", ".e[0]", 1),
    "a result left out": ("layer norm", "if (lane == 0) b1", "if (lane == 32) b1", 1),
    "sum without an end": ("arithmetic i32", "(int)((unsigned int)v0 + (unsigned int)v1)", "v0 + v1", 1),
}


@needs_shim
@pytest.mark.parametrize("fault", FAULTS)
def test_the_shim_notices(fault: str, shim_folder: Path) -> None:
    name, old, new, count = FAULTS[fault]
    program = programs(CASES[name])["for any shape"]
    source = codegen.module_source(functions(program))
    assert old in source, "the kernels' text has changed: so must this test"
    module = Module(source.replace(old, new, count), shim_folder)
    with suppress(ShimError):
        assert differences(program, module, CASES[name].inputs(), reference(CASES[name])) != []


# The text ---------------------------------------------------------------------------------------------------

# One case a way of printing, and the file that holds its kernels.
GOLDEN_CASES = {
    "map": "broadcasts",
    "map_over_two_axes": "broadcasts of a small array",
    "tiles": "transpose of four axes",
    "scalars": "scalars",
    "rows": "softmax of rows of 33",
    "rows_of_many_blocks": "sums of rows of 4097",
    "short_rows": "layer norm of short rows",
    "columns": "sums of columns of 4097",
    "columns_with_consumers": "argmax of columns of 40",
    "between_threads": "sum of a long vector",
    "scatter": "scatter add of rows",
    "scatter_of_columns": "scatter add of columns",
    "sorted_updates": "scatter add of thousands of rows",
    "long_rows": "softmax of rows of 60000",
    "layer_norm": "layer norm f64",
    "layer_norm_of_columns": "layer norm of a middle axis",
    "reductions_of_integers": "row reductions of u64",
    "reductions_of_bools": "column reductions of bool",
    "argmax": "argmax of rows of 40",
    "running_sums": "running sums of f32[5,70]",
    "running_sums_of_columns": "running extremes of [70,40] True",
    "many_updates": "updates of several parameters",
    "several_reductions": "several reductions of all",
    "many_columns": "sums of many columns",
    "columns_in_stages": "columns of many blocks",
    "rows_in_registers": "layer norm of rows of 2048",
    "rows_in_shared_memory": "softmax of rows of 20000",
    "sum_over_outer_axes": "sum over the outer axes",
    "few_long_rows": "sums of few long rows",
    "gather": "gather rows of a gelu",
    "gather_of_bools": "gather columns",
    "concatenation": "concatenate",
    "padding": "pad",
    "update": "update a slice",
    "slices": "slices",
    "conversions": "conversions of f64",
    "integers": "arithmetic i8",
    "logic": "logic",
    "random": "random bits",
    "integer_product": "integer product",
    "rows_of_halves": "layer norm bf16",
    "mixed_precision": "mixed precision",
    "scatter_of_halves": "scatter add of rows of f16",
    "complex_numbers": "arithmetic c64",
}


@pytest.mark.parametrize("file", GOLDEN_CASES)
def test_golden(file: str, request: pytest.FixtureRequest) -> None:
    text = codegen.module_source(entries(programs(CASES[GOLDEN_CASES[file]])["specialized"]))
    path = GOLDEN / f"{file}.cu"
    if request.config.getoption("update_golden", default=False):
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == expected, f"{path.name} differs; if that is meant: pytest tests/backends/cuda --update-golden"


def test_launch_shape() -> None:
    def launches(name: str) -> list[tuple[int, int]]:
        program = programs(CASES[name])["for any shape"]
        found = [codegen.launch_of(call.kernel, call.parameters) for call in program.calls]
        return [(launch.grid, launch.threads) for launch in found]

    def launch(blocks: int, threads: int) -> tuple[int, int]:
        return blocks, threads

    assert launches("gelu") == [launch(15, 256)]  # 15000 elements, a thread for each four
    assert launches("sums of rows of 33") == [launch(3, 256)]  # 17 rows, a warp each
    assert launches("sums of columns of 33") == [launch(3, 256)]  # 19 columns, 8 at a time
    assert launches("sums of many columns") == [launch(129, 512)]  # 2053 columns, 16 at a time
    assert launches("sums of rows of 9000") == [launch(17, 256)]  # few rows, a block each for up to 8 blocks of theirs
    assert launches("transpose") == [launch(2, 256)]  # tiles of 32 by 32
    assert launches("scalars") == [launch(1, 32)]
    assert launches("sum of a long vector") == [launch(3, 256)]  # 18 blocks, a warp each
    assert launches("columns of many blocks") == [launch(5, 256)]  # 5 blocks of 4096 rows


def test_one_source_for_equal_kernels() -> None:
    program = programs(CASES["gelu"])["specialized"]
    source = codegen.module_source([*entries(program), *entries(program)])
    assert source == codegen.module_source(entries(program))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="CUDA kernels do not compute with c64"):
        instructions.element_type(complex64)
