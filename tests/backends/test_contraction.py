"""The matrix product keeps its order of summation, to the bit, whatever the shapes, layouts and vector widths."""

import ctypes
import ctypes.util
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

llvm = pytest.importorskip("llvmlite.binding")

import tracejit as tj  # noqa: E402
from tracejit.backends.convolutions import vectors_of_places  # noqa: E402
from tracejit.backends.cpu import contraction  # noqa: E402
from tracejit.backends.cpu.shares import shares  # noqa: E402
from tracejit.backends.cpu.target import Target, describe, host_target  # noqa: E402
from tracejit.backends.cpu.vectors import VECTOR_FACTS, blocking  # noqa: E402

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def fma_of(dtype: np.dtype) -> np.ufunc:
    """The C library's fused multiply-add on arrays: no detour over wider numbers, which would round twice."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    function, number = (library.fmaf, ctypes.c_float) if dtype == FLOAT32 else (library.fma, ctypes.c_double)
    function.argtypes, function.restype = [number] * 3, number
    return np.frompyfunc(function, 3, 1)


def oracle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The definition, element by element: chains of fma over blocks of k, whose sums are added in order."""
    fma, dtype, depth = fma_of(a.dtype), a.dtype, a.shape[2]
    result = np.zeros((max(len(a), len(b)), a.shape[1], b.shape[2]), dtype)
    for first in range(0, depth, contraction.DEPTH):
        block = np.zeros_like(result)
        for k in range(first, min(first + contraction.DEPTH, depth)):
            block = fma(a[:, :, k, None], b[:, None, k, :], block).astype(dtype)
        result = block if first == 0 else result + block
    return result


def narrowed(bits: int) -> Target:
    """The host, as if it had narrower vectors only."""
    host = host_target()
    if bits == host.vector_bits:
        return host
    if host.architecture != "x86_64" or bits > host.vector_bits:
        pytest.skip(f"no {bits}-bit vectors on this processor")
    cpu = {256: "x86-64-v3", 128: "x86-64-v2"}[bits]
    return describe(host.triple, cpu, {"avx2": bits == 256, "fma": bits == 256})


@dataclass
class Kernel:
    dtype: np.dtype
    target: Target

    def __post_init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.engines: list[Any] = []
        self.functions: dict[str, Any] = {}

    def function(self, name: str) -> Any:
        """A kernel, compiled when it is first asked for."""
        if name not in self.functions:
            module = llvm.parse_assembly(contraction.contraction_module(self.dtype, self.target, name))
            module.verify()
            machine = llvm.Target.from_triple(self.target.triple).create_target_machine(
                cpu=self.target.cpu, features=self.target.features, opt=2, jit=True
            )
            engine = llvm.create_mcjit_compiler(module, machine)
            engine.finalize_object()
            self.engines.append(engine)
            address = engine.get_function_address(name)
            self.functions[name] = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(address)
        return self.functions[name]

    @property
    def kind(self) -> str:
        return "f32" if self.dtype == FLOAT32 else "f64"

    def __call__(self, a: np.ndarray, b: np.ndarray, pieces: int = 1, **options: Any) -> np.ndarray:
        """What the kernel for the product gives; the one for all products gives the same."""
        sizes = a.shape[1], b.shape[2], a.shape[2]
        strides = ([stride // x.itemsize for stride in x.strides[1:]] for x in (a, b))
        name = contraction.kernel_name(self.dtype, self.target, sizes, *strides)
        general = f"dot_{self.kind}"
        result = self.run(name, a, b, pieces, **options)
        if name != general:
            assert_same_bits(result, self.run(general, a, b, pieces, **options))
        return result

    def run(
        self, name: str, a: np.ndarray, b: np.ndarray, pieces: int, addend: np.ndarray | None = None, gap: int = 0,
        tables: Sequence[np.ndarray] = (), apart: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """The product, in rows (columns if ``apart``) that are ``gap`` elements apart, and the addend, which may be C's
        own memory."""
        (m, k), n, batch = a.shape[1:], b.shape[2], max(len(a), len(b))
        guard = 64  # elements on both sides that must stay as they are
        rows, columns = (n, m) if apart else (m, n)
        row = columns + gap
        memory = np.full(batch * rows * row + 2 * guard, 7.5, self.dtype)
        wide = memory[guard : len(memory) - guard].reshape(batch, rows, row)
        c = wide[:, :, :columns].mT if apart else wide[:, :, :columns]
        if addend is not None and addend.shape == c.shape and gap:
            c[...] = addend
            addend = c
        if tables and tables[0].shape[1] == len(VECTOR_FACTS):
            n = (len(tables[0]) - 1) * self.target.lanes(self.dtype)
        per_worker = contraction.scratch_bytes(self.dtype, self.target, m, n, k)
        scratch = np.full(2 * per_worker + guard, 0xA5, np.uint8)
        inner = 2 if batch % 2 == 0 else 1  # stacks of two matrices

        def batch_strides(x: np.ndarray) -> list[int]:
            step = 0 if len(x) == 1 else x.strides[0] // x.itemsize
            return [step * inner, step]

        strides = [*batch_strides(a), *(s // a.itemsize for s in a.strides[1:])]
        strides += [*batch_strides(b), *(s // b.itemsize for s in b.strides[1:])]
        strides += [rows * row * inner, rows * row, *((1, row) if apart else (row, 1))]
        if addend is None:
            strides += [0, 0, 0, 0]
        elif addend.size == 1:
            strides += [0, 0, 0, 0]
            addend = np.full(contraction.NUMBER_BYTES // addend.itemsize, addend)
        else:
            row, column = (0 if addend.shape[1] == 1 else s // addend.itemsize for s in addend.strides[1:])
            strides += [*batch_strides(addend), row, column if apart else 1]
        pointers = [a.ctypes.data, b.ctypes.data, c.ctypes.data, 0 if addend is None else addend.ctypes.data]
        at = [table.ctypes.data for table in tables] or [0, 0]
        parts = shares(self.dtype, self.target, batch, m, n, k, pieces)
        numbers = [batch, inner, m, n, k, *strides, blocking(self.dtype, self.target).height, parts.columns]
        slots = np.array([*pointers, *numbers, scratch.ctypes.data, per_worker, *at], np.int64)
        assert len(slots) == len(contraction.SLOTS)
        edges = np.linspace(0, parts.units, pieces + 1).astype(int).tolist()
        for piece in range(pieces):
            self.function(name)(slots.ctypes.data, edges[piece], edges[piece + 1], piece % 2)
        assert (wide[:, :, columns:] == 7.5).all()
        assert (memory[:guard] == 7.5).all()
        assert (memory[len(memory) - guard :] == 7.5).all()
        assert (scratch[2 * per_worker :] == 0xA5).all()
        return c


@pytest.fixture(params=[512, 256, 128], scope="module")
def target(request: pytest.FixtureRequest) -> Target:
    return narrowed(request.param)


@pytest.fixture(params=[FLOAT32, FLOAT64], ids=str, scope="module")
def kernel(request: pytest.FixtureRequest, target: Target) -> Kernel:
    return Kernel(request.param, target)


LAYOUTS = ("rows", "columns", "padded", "strided", "reversed")


def operand(rng: np.random.Generator, shape: tuple[int, int, int], dtype: np.dtype, layout: str) -> np.ndarray:
    batch, rows, columns = shape

    def numbers(*extents: int) -> np.ndarray:
        return (rng.standard_normal(extents) * 10.0 ** rng.integers(-3, 4, extents)).astype(dtype)

    match layout:
        case "columns":
            return numbers(batch, columns, rows).transpose(0, 2, 1)
        case "padded":
            return numbers(batch, rows, columns + 5)[:, :, :columns]
        case "strided":
            return numbers(batch, 2 * rows, 3 * columns)[:, ::2, ::3]
        case "reversed":
            return numbers(batch, rows, columns)[:, ::-1, ::-1]
        case _:
            return numbers(batch, rows, columns)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes(), f"differ at {np.argwhere(actual != expected)[:5].tolist()}"


SHAPES = [
    (1, 1, 1), (1, 40, 1), (17, 3, 1), (1, 5, 300), (2, 9, 33), (4, 16, 16), (10, 20, 10), (12, 7, 32), (13, 8, 31),
    (25, 10, 48), (31, 33, 17), (5, 0, 7), (0, 4, 3), (3, 4, 0), (3, 255, 5), (2, 256, 3), (2, 257, 3), (3, 600, 2),
    (1, 300, 140), (150, 300, 1), (2, 3, 1600), (1, 30, 700), (700, 45, 1), (3, 50, 37), (50, 40, 40),
    (4, 1, 40), (3, 1, 33), (1, 1, 40), (1, 1, 33), (40, 1, 3), (33, 1, 1), (1, 300, 1), (1, 4500, 1), (2, 600, 1),
    (2, 600, 2),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_order_of_summation_is_the_documented_one(kernel: Kernel, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(m + 7 * k + 31 * n)
    for number, left in enumerate(LAYOUTS):
        right = LAYOUTS[(2 * number + 1) % len(LAYOUTS)]
        a, b = operand(rng, (1, m, k), kernel.dtype, left), operand(rng, (1, k, n), kernel.dtype, right)
        assert_same_bits(kernel(a, b), oracle(a, b))


@pytest.mark.parametrize("shape", [(14, 9, 33), (3, 300, 40), (1, 270, 70), (40, 16, 64), (25, 33, 1)], ids=str)
def test_an_addend_is_added_last_and_may_be_what_is_there(kernel: Kernel, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(4)
    for left, right in (("rows", "rows"), ("rows", "columns"), ("columns", "strided")):
        a, b = operand(rng, (3, m, k), kernel.dtype, left), operand(rng, (3, k, n), kernel.dtype, right)
        product = oracle(a, b)
        for addend_shape in ((3, m, n), (1, m, n), (1, 1, 1), *[(1, 1, n)] * (n > 1)):
            addend = operand(rng, addend_shape, kernel.dtype, "rows")
            assert_same_bits(kernel(a, b, pieces=2, addend=addend), product + addend)
        if n > 1:
            assert_same_bits(np.ascontiguousarray(kernel(a, b, gap=3)), product)
        if n > 1 and k <= contraction.DEPTH:
            addend = operand(rng, (3, m, n), kernel.dtype, "rows")
            assert_same_bits(np.ascontiguousarray(kernel(a, b, addend=addend, gap=5)), product + addend)


def test_batches_and_operands_shared_by_the_batch(kernel: Kernel) -> None:
    rng = np.random.default_rng(1)
    for batches in ((3, 3), (1, 3), (3, 1), (6, 6), (1, 4)):
        a, b = (
            operand(rng, (batches[0], 14, 9), kernel.dtype, "rows"),
            operand(rng, (batches[1], 9, 19), kernel.dtype, "columns"),
        )
        assert_same_bits(kernel(a, b, pieces=4), oracle(a, b))


def test_the_bits_do_not_depend_on_how_the_work_is_shared_or_packed(kernel: Kernel) -> None:
    """Rows far apart and many tiles: here a panel is copied, and C is cut into blocks."""
    rng = np.random.default_rng(2)
    columns = 2 * contraction.FAR_STEP // kernel.dtype.itemsize
    a, b = (
        operand(rng, (1, 110, columns), kernel.dtype, "rows"),
        operand(rng, (1, columns, columns), kernel.dtype, "rows"),
    )
    whole = kernel(a, b)
    assert_same_bits(kernel(a, b, pieces=7), whole)
    for i, j in ((0, 0), (109, columns - 1), (50, 517)):  # single rows and columns go other ways
        assert_same_bits(kernel(a[:, i : i + 1], b[:, :, j : j + 1]), whole[:, i : i + 1, j : j + 1])
    assert_same_bits(kernel(a[:, 9:20], b[:, :, 3:50]), np.ascontiguousarray(whole[:, 9:20, 3:50]))
    assert_same_bits(kernel(a, b[:, :, 5:6]), np.ascontiguousarray(whole[:, :, 5:6]))
    memory = np.empty(b.size + 1, kernel.dtype)
    for first in (0, 1):  # vectors that cross the lines of the cache, and others
        skewed = memory[first : b.size + first].reshape(b.shape)
        skewed[...] = b
        assert_same_bits(kernel(a[:, :60], skewed), np.ascontiguousarray(whole[:, :60]))
        columns = skewed.transpose(0, 2, 1)
        assert_same_bits(kernel(a[:, :3], columns), kernel(a[:, :3], np.ascontiguousarray(columns)))


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_few_rows_whose_columns_are_apart(kernel: Kernel, layout: str) -> None:
    rng = np.random.default_rng(5)
    for m, k, n in ((2, 300, 37), (3, 1100, 21), (4, 40, 70)):
        if m > contraction.blocking(kernel.dtype, kernel.target).low:
            continue
        a, b = operand(rng, (3, m, k), kernel.dtype, "rows"), operand(rng, (3, k, n), kernel.dtype, layout)
        sizes, strides = (m, n, k), [[s // x.itemsize for s in x.strides[1:]] for x in (a, b)]
        name = contraction.kernel_name(kernel.dtype, kernel.target, sizes, *strides)
        if name == f"dot_{kernel.kind}":
            continue
        expected = np.ascontiguousarray(kernel.run(f"dot_{kernel.kind}", a, b, 1))
        assert_same_bits(np.ascontiguousarray(kernel.run(name, a, b, 2, apart=True, gap=3)), expected)
        for addend in (operand(rng, (3, m, n), kernel.dtype, "columns"), np.full((1, 1, 1), 0.3, kernel.dtype)):
            actual = kernel.run(name, a, b, 2, apart=True, addend=addend)
            assert_same_bits(np.ascontiguousarray(actual), expected + addend)


def test_products_with_few_columns() -> None:
    rng = np.random.default_rng(6)
    a, b, rest = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 70, 300), (2, 300, 40), (2, 70, 3)))
    whole = tj.matmul(tj.asarray(a), tj.asarray(b)).numpy()[:, :, :3]

    @tj.jit
    def products(a: tj.Tensor, b: tj.Tensor, rest: tj.Tensor) -> tuple[tj.Tensor, ...]:
        return a @ b, a @ b + rest, a @ b + rest[0, 0], (b.mT @ a.mT).mT, a[0] @ b, a @ b + 0.5

    found = products(*map(tj.asarray, (a, np.ascontiguousarray(b[:, :, :3]), rest)))
    expected = whole, whole + rest, whole + rest[0, 0], whole, None, whole + np.float32(0.5)
    for actual, wanted in zip(found, expected, strict=True):
        if wanted is not None:
            assert_same_bits(actual.numpy(), wanted)
    assert_same_bits(found[4].numpy()[0], whole[0])


@pytest.mark.parametrize("depth", [1024, 1300, 2304])
def test_few_rows_keep_the_order_along_long_columns(kernel: Kernel, depth: int) -> None:
    rng = np.random.default_rng(depth)
    a = operand(rng, (2, 14, depth), kernel.dtype, "rows")
    b = operand(rng, (2, depth, 37), kernel.dtype, "columns")
    a[:, 1], a[:, 2, 300:] = -0.0, 0.0
    whole, smallest = kernel(a, b), np.finfo(kernel.dtype).smallest_subnormal
    for rows in (1, 3, 4):
        assert_same_bits(kernel(a[:, :rows], b, pieces=2), np.ascontiguousarray(whole[:, :rows]))
    assert_same_bits(kernel(b[:, :, :17].mT, a[:, :1].mT), np.ascontiguousarray(whole[:, :1, :17].mT))
    tiny = np.full((1, 14, depth), -smallest), np.full((1, 20, depth), 0.25, kernel.dtype).mT  # sums that are -0.0
    assert_same_bits(kernel(tiny[0][:, :1], tiny[1]), np.ascontiguousarray(kernel(*tiny)[:, :1]))


def test_zeros_infinities_nans_and_subnormals(kernel: Kernel) -> None:
    rng = np.random.default_rng(3)
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e-45], kernel.dtype)
    with np.errstate(all="ignore"):
        for weights in ([8, 8, 2, 2, 0.1, 0.1, 0.1, 8, 8, 8], [1, 1, 0, 0, 0, 0, 0, 1, 1, 0]):
            chances = np.array(weights) / np.sum(weights)
            a, b = rng.choice(values, (1, 14, 270), p=chances), rng.choice(values, (1, 270, 18), p=chances)
            actual, expected = kernel(a, b), oracle(a, b)
            assert (np.isnan(actual) == np.isnan(expected)).all()
            assert_same_bits(np.nan_to_num(actual, nan=1.0), np.nan_to_num(expected, nan=1.0))


def table(offsets: np.ndarray) -> np.ndarray:
    """Each offset, and how many from there on are neighbours."""
    runs = np.ones_like(offsets)
    for i in range(len(offsets) - 2, -1, -1):
        runs[i] = runs[i + 1] + 1 if offsets[i + 1] == offsets[i] + 1 else 1
    return np.stack([offsets, runs], axis=1)


@pytest.mark.parametrize("shape", [(14, 9, 33), (3, 300, 40), (26, 270, 70), (1, 5, 40), (13, 40, 2)], ids=str)
@pytest.mark.parametrize("side", ["lhs", "rhs"])
def test_an_operand_read_through_windows(kernel: Kernel, shape: tuple[int, int, int], side: str) -> None:
    """The same as of the matrix that the tables describe, and nothing outside the image is read."""
    m, k, n = shape
    rng = np.random.default_rng(m)
    for lengths in ((1, 1), (7, 3), (1, 40), (40, 1)):
        count = m if side == "lhs" else n
        places, depths = (
            (np.arange(extent) + np.arange(extent) // length * 2)[:: -1 if length == 3 else 1]
            for extent, length in zip((count, k), lengths, strict=True)
        )
        extent = int(places.max() + depths.max()) + 1
        with guarded((2 * extent) * kernel.dtype.itemsize) as memory:
            images = memory.view(kernel.dtype).reshape(2, extent)
            images[:] = rng.standard_normal(images.shape)
            found = images[:, depths[:, None] + places]
            if side == "lhs":
                found = np.ascontiguousarray(found.transpose(0, 2, 1))
                other = operand(rng, (1, k, n), kernel.dtype, "columns")
                a, b, written_out = images[:, :1, None], other, (found, other)
            else:
                other = operand(rng, (1, m, k), kernel.dtype, "rows")
                a, b, written_out = other, images[:, :1, None], (other, found)
            a, b = np.broadcast_to(a, (len(a), m, k)), np.broadcast_to(b, (len(b), k, n))
            expected = kernel.run(f"dot_{kernel.kind}", *written_out, 1)
            ways = [table(places)]
            lanes = kernel.target.lanes(kernel.dtype)
            vectors = vectors_of_places(places, lanes)
            all_full = len(vectors) % 2 == 1 and np.all(vectors[:-1, 3] == lanes)
            if side == "rhs" and (kernel.target.has_masked_memory or all_full):
                ways.append(vectors)
            for way in ways:
                name = contraction.kernel_name(kernel.dtype, kernel.target, (m, n, k), (), (), side, way)
                assert_same_bits(kernel.run(name, a, b, 3, tables=[way, table(depths)]), expected)


@contextmanager
def guarded(size: int) -> Iterator[np.ndarray]:
    """So many bytes that end where memory may not be read; what begins a page does so behind such memory."""
    library = ctypes.CDLL(None, use_errno=True)
    pages = -(-size // mmap.PAGESIZE) + 2
    whole = mmap.mmap(-1, pages * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    first, last = (ctypes.c_void_p(start + page * mmap.PAGESIZE) for page in (0, pages - 1))
    length, nothing, everything = ctypes.c_size_t(mmap.PAGESIZE), 0, mmap.PROT_READ | mmap.PROT_WRITE
    for edge in (first, last):
        assert library.mprotect(edge, length, nothing) == 0
    end = (pages - 1) * mmap.PAGESIZE
    yield np.frombuffer(whole, np.uint8)[end - size : end]
    for edge in (first, last):
        assert library.mprotect(edge, length, everything) == 0


@pytest.mark.parametrize(
    "shape",
    [
        (1, 33, 40),
        (3, 20, 33),
        (1, 300, 17),
        (13, 9, 31),
        (50, 70, 37),
        (40, 40, 1),
        (64, 256, 16),
        (2, 1100, 17),
        (1, 4400, 1),
    ],
    ids=str,
)
def test_nothing_is_read_beyond_the_operands(kernel: Kernel, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(m + k + n)
    for turned in ((False, False), (False, True), (True, False)):
        operands = [
            operand(rng, (1, *extents), kernel.dtype, "columns" if is_turned else "rows")
            for extents, is_turned in zip(((m, k), (k, n)), turned, strict=True)
        ]
        expected = kernel(*operands)
        with guarded(operands[0].nbytes) as left, guarded(operands[1].nbytes) as right:
            places = []
            for memory, array, is_turned in zip((left, right), operands, turned, strict=True):
                whole = memory.view(kernel.dtype)
                _, rows, columns = array.shape
                place = whole.reshape(1, columns, rows).mT if is_turned else whole.reshape(array.shape)
                place[...] = array
                places.append(place)
            assert_same_bits(kernel(*places), expected)
            del places, place, whole, memory, left, right


@pytest.mark.parametrize("rows", [1, 8, 9, 31, 33])
def test_single_columns_are_added(rows: int) -> None:
    generator = np.random.default_rng(rows)
    a, b = (tj.tensor(generator.standard_normal((rows, 3))) for _ in range(2))
    u, w = (tj.tensor(generator.standard_normal((3, 1))) for _ in range(2))

    def total(a: tj.Tensor, b: tj.Tensor, u: tj.Tensor, w: tj.Tensor) -> tj.Tensor:
        return a @ u + b @ w

    assert tj.jit(total)(a, b, u, w).numpy().tobytes() == total(a, b, u, w).numpy().tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "sizes", [(1, 16, 128, 512), (1, 100, 100, 100), (3, 33, 257, 9), (1, 1024, 4096, 64), (2, 0, 5, 3)]
)
def test_threads_share_all_of_a_product_about_evenly(sizes: tuple[int, ...], threads: int) -> None:
    batch, m, n, k = sizes
    parts = shares(FLOAT32, host_target(), batch, m, n, k, threads)
    shape = blocking(FLOAT32, host_target())
    assert parts.columns % shape.strip == 0
    assert parts.columns <= shape.column_block
    assert parts.units == batch * -(-m // shape.height) * -(-n // parts.columns)
    assert 1 <= parts.grain <= max(-(-parts.units // threads), 1)
