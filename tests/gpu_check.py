"""One command for a machine with a GPU: ``python -m tests.gpu_check --out DIR``.

First the tests of devices run on the GPU, while compilers that keep what they have compiled do that already; then what
the GPU can do at the most is measured, and each library, in a process of its own, runs the workloads, timed by the
device's events where it has them; what ends that process ends one workload: another process goes on with the next.
``DIR/results.json`` is written after each phase, ``DIR/results.md`` and the same table on the screen at the end; all
within ``--budget`` seconds.  ``--dry-run`` does it all on a simulated GPU, small.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from .benchmarks import models
from .benchmarks.libraries import LIBRARIES, Library

ROOT = Path(__file__).resolve().parents[1]
MODES = {  # of torch.compile
    "torch.compile": "default", "torch.compile autotuned": "max-autotune-no-cudagraphs",
    "torch.compile graphs": "reduce-overhead",
}  # fmt: skip
NAMES = ("tracejit", "tracejit, eager", "cupy", "torch", *MODES, "jax")
KEPT = (*MODES, "jax")  # what these compile in one process is there in the next one
TESTS = ("tests/devices/test_tensors.py", "tests/devices/test_programs.py", "tests/devices/test_kernels.py",
         "tests/devices/test_attention.py", "tests/devices/test_ops.py")  # fmt: skip
TEST_SHARE = 0.35  # of the budget
REPEATS, SECONDS_OF_A_WORKLOAD = 7, 0.5
MOST_SECONDS = 40  # of a workload, compiling included: then its process ends, and another goes on with the next one
AGAIN = 75  # exit status: nothing works any more after an error on the GPU, a new process may go on
DRAWN = (1 << 20) + 7  # numbers of an input: no multiple of a row
WEIGHTS = np.cos(np.arange(8191))  # of results, again and again
ROTATED_BYTES = 200 << 20  # inputs rotate through that much: more than the cache holds
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Workload:
    """``program(library)`` makes what is timed; ``bytes`` is what has to be moved at the least."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    tiny: tuple[tuple[int, ...], ...]
    program: Callable[[Library], Callable[..., Any]]
    bytes: float = 0
    flops: float = 0  # likewise
    launch_bound: bool = False  # what takes the time is to ask for the work: then graphs of launches are compared too
    labels: int = 0  # how many classes the last input counts, if it holds integers
    tokens: bool = False  # whether all inputs do
    dtype: Any = np.float32
    without: tuple[str, ...] = ()  # libraries that have no such program
    tolerance: float = 1e-3
    tiny_program: Callable[[Library], Callable[..., Any]] | None = None  # in the place of a program with large weights

    def arrays(self, tiny: bool, seed: int) -> Arrays:
        generator = np.random.default_rng(seed)
        shapes = self.tiny if tiny else self.shapes
        return [
            generator.integers(0, min(self.labels, 10) if tiny else self.labels, shape)
            if self.labels and (self.tokens or number == len(shapes) - 1)
            else _drawn(generator, shape, self.dtype)
            for number, shape in enumerate(shapes)
        ]


def _drawn(generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Normal numbers; those of a large array are a few, again and again: to draw all would take longer than what is
    timed."""
    some = generator.standard_normal(min(math.prod(shape), DRAWN), dtype=np.float32)
    return np.resize(some.astype(dtype), shape)


def of(function: Callable[..., Any]) -> Callable[[Library], Callable[..., Any]]:
    return lambda m: m.compile(partial(function, m))


def gelu(m: Library, x: Any, bias: Any) -> Any:
    y = x + bias
    return 0.5 * y * (1 + m.tanh(0.7978845608 * (y + 0.044715 * y * y * y)))


def softmax(m: Library, x: Any) -> Any:
    e = m.exp(x - m.max(x, -1, keepdims=True))
    return e / m.sum(e, -1, keepdims=True)


def layer_norm(m: Library, x: Any, weight: Any, bias: Any) -> Any:
    centred = x - m.mean(x, -1, keepdims=True)
    return centred / m.sqrt(m.mean(centred * centred, -1, keepdims=True) + 1e-5) * weight + bias


def norm_backward(m: Library, x: Any, weight: Any, g: Any) -> Any:
    """The gradient of a layer norm, written out: of its input, its weight and its bias."""
    centred = x - m.mean(x, -1, keepdims=True)
    rstd = 1 / m.sqrt(m.mean(centred * centred, -1, keepdims=True) + 1e-5)
    normalized, scaled = centred * rstd, g * weight
    along = m.mean(scaled, -1, keepdims=True) + normalized * m.mean(scaled * normalized, -1, keepdims=True)
    return [(scaled - along) * rstd, m.sum(g * normalized, 0), m.sum(g, 0)]


def three_reductions(m: Library, x: Any) -> Any:
    size = m.abs(x)
    return [m.max(size), m.mean(size), m.mean(x * x)]


def attention(m: Library, q: Any, k: Any, v: Any) -> Any:
    return softmax(m, q @ m.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5) @ v


def attention_of_halves(m: Library, *, gradients: bool) -> Callable[..., Any]:
    """Each query looks at what comes before it; by the library's own function."""
    if m.name == "jax":
        by = "cudnn" if m.jax.default_backend() == "gpu" else None

        def of_jax(*rows: Any) -> Any:
            turned = [m.swapaxes(x, 1, 2) for x in rows]
            return m.swapaxes(m.jax.nn.dot_product_attention(*turned, is_causal=True, implementation=by), 1, 2)

        def with_gradients_of_jax(*rows: Any) -> Any:
            result, pull = m.jax.vjp(of_jax, *rows)
            return [result, *pull(result)]

        return with_gradients_of_jax if gradients else of_jax

    def attend(q: Any, k: Any, v: Any) -> Any:
        return m.F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def with_gradients(*rows: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in rows]
        result = attend(*leaves)
        result.backward(result.detach())
        return [result.detach(), *(leaf.grad for leaf in leaves)]

    return with_gradients if gradients else attend


def embedding_gradient(m: Library) -> Callable[..., Any]:
    """Rows are added to those of a table that are named, many of them several times."""

    def of_jax(table: Any, rows: Any, names: Any) -> Any:
        return m.zeros_like(table).at[names].add(rows)

    def gradient(table: Any, rows: Any, names: Any) -> Any:
        table = table.detach().requires_grad_()
        m.F.embedding(names, table).backward(rows)
        return table.grad

    return of_jax if m.name == "jax" else gradient


def twenty_kernels(m: Library, x: Any) -> Any:
    for _ in range(10):
        x = x - m.mean(x, 0, keepdims=True)
        x = x / m.sqrt(m.mean(x * x, 1, keepdims=True) + 1)
    return x


def perceptron(width: int) -> Any:
    return trained(partial(models.mlp, width=width), models.mlp_jax, models.mlp_shapes(width))


def gpt(layers: int, width: int, heads: int, words: int, length: int, *, halves: bool = False) -> Any:
    sizes = {"layers": layers, "width": width, "words": words, "length": length}
    model, of_jax = lambda m: models.gpt(m, heads=heads, **sizes), partial(models.gpt_jax, heads=heads)
    return trained(model, of_jax, models.gpt_shapes(**sizes), halves=halves)


def few_convolutions(m: Library) -> Any:
    nn = m.nn
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 10))


def few_convolutions_jax(m: Library, p: Sequence[Any], x: Any) -> Any:
    x = models.pooled_jax(m, models.convolved_jax(m, x, p[0], p[1]))
    return x.reshape(x.shape[0], -1) @ p[2].T + p[3]


def trained(
    model: Callable[[Library], Any], of_jax: Callable[..., Any], shapes: models.Shapes, *, halves: bool = False
) -> Any:
    step = models.training(model, halves=halves)
    step_of_jax = models.training_jax(of_jax, shapes, halves=halves)
    return lambda m: (step_of_jax if m.name == "jax" else step)(m)


def rows(name: str, function: Callable[..., Any], width: int, vectors: int) -> Workload:
    count = (1 << 26) // width
    shapes = ((count, width), *[(width,)] * vectors)
    return Workload(f"{name} of rows of {width}", shapes, ((5, 33), *[(33,)] * vectors), of(function), 8.0 * (1 << 26))


def rows_of_halves(name: str, function: Callable[..., Any], width: int, vectors: int) -> Workload:
    """In bfloat16, by the library's own function."""
    count = (1 << 27) // width
    shapes, tiny = ((count, width), *[(width,)] * vectors), ((5, 34), *[(34,)] * vectors)
    name = f"{name} of rows of {width} bf16"
    return Workload(name, shapes, tiny, of(function), 4.0 * (1 << 27), dtype=bfloat16, without=("cupy",), tolerance=0.1)


def softmax_of_halves(m: Library, x: Any) -> Any:
    return m.jax.nn.softmax(x.astype(m.float32)).astype(x.dtype) if m.name == "jax" else m.F.softmax(x, -1)


def layer_norm_of_halves(m: Library, x: Any, weight: Any, bias: Any) -> Any:
    if m.name != "jax":
        return m.F.layer_norm(x, x.shape[-1:], weight, bias)
    return layer_norm(m, *(item.astype(m.float32) for item in (x, weight, bias))).astype(x.dtype)


WORKLOADS: list[Workload] = [
    Workload("gelu and bias", ((8192, 8192), (8192,)), ((9, 33), (33,)), of(gelu), 8.0 * 8192**2),
    *[rows("softmax", softmax, width, 0) for width in (1024, 4096, 8192, 65536)],
    *[rows("layer norm", layer_norm, width, 2) for width in (1024, 4096, 8192, 65536)],
    Workload("gelu and bias bf16", ((8192, 16384), (16384,)), ((9, 34), (34,)), of(gelu), 4.0 * 8192 * 16384,
             dtype=bfloat16, without=("cupy",), tolerance=0.1),
    *[rows_of_halves("softmax", softmax_of_halves, width, 0) for width in (1024, 4096, 32768, 65536)],
    *[rows_of_halves("layer norm", layer_norm_of_halves, width, 2) for width in (1024, 4096, 32768)],
    Workload("sum", ((1 << 28,),), ((5000,),), of(lambda m, x: m.sum(x)), 4.0 * (1 << 28)),
    Workload("sum over rows", ((65536, 1024),), ((70, 9),), of(lambda m, x: m.sum(x, 0)), 4.0 * (1 << 26)),
    Workload("three reductions", ((1 << 27,),), ((5000,),), of(three_reductions), 4.0 * (1 << 27)),
    Workload("layer norm's gradient", ((16384, 4096), (4096,), (16384, 4096)), ((9, 33), (33,), (9, 33)),
             of(norm_backward), 12.0 * 16384 * 4096),
    Workload("attention", ((8, 16, 1024, 64),) * 3, ((1, 2, 5, 4),) * 3, of(attention), tolerance=1e-2,
             flops=4.0 * 8 * 16 * 1024**2 * 64),
    *[
        Workload(f"attention bf16{', with gradients' if gradients else ''}", ((8, 16, 2048, 64),) * 3,
                 ((1, 2, 9, 16),) * 3, partial(attention_of_halves, gradients=gradients), dtype=bfloat16,
                 flops=(14.0 if gradients else 4.0) * 8 * 16 * 2048**2 * 64 / 2, without=("cupy",), tolerance=0.1)
        for gradients in (False, True)
    ],
    Workload("gradient of an embedding, 4M rows", ((1 << 20, 16), (1 << 22, 16), (1 << 22,)),
             ((12, 3), (40, 3), (40,)), embedding_gradient, 4.0 * 16 * ((1 << 22) + (1 << 20)), labels=1 << 20,
             without=("cupy",)),
    Workload("20 kernels on 1 MB", ((512, 512),), ((9, 7),), of(twenty_kernels), launch_bound=True),
    Workload("perceptron, a step", ((1024, 784), (1024,)), ((3, 784), (3,)), perceptron(1024), labels=10,
             without=("cupy",), tolerance=1e-2, tiny_program=perceptron(8), launch_bound=True),
    Workload("convolutions, a step", ((256, 3, 32, 32), (256,)), ((2, 3, 4, 4), (2,)),
             trained(models.cnn, models.cnn_jax, models.cnn_shapes()), labels=10, without=("cupy",), tolerance=1e-2,
             tiny_program=trained(few_convolutions, few_convolutions_jax, [(4, 3, 3, 3), (4,), (10, 16), (10,)])),
    Workload("GPT-2 small, a step", ((4, 512), (4, 512)), ((1, 4), (1, 4)), gpt(12, 768, 12, 50257, 1024),
             flops=6.0 * 4 * 512 * 124e6, labels=50257, tokens=True,
             without=("cupy",), tolerance=1e-2, tiny_program=gpt(1, 8, 2, 16, 4)),
    Workload("GPT-2 small, a step in bf16", ((4, 512), (4, 512)), ((1, 4), (1, 4)),
             gpt(12, 768, 12, 50257, 1024, halves=True), flops=6.0 * 4 * 512 * 124e6, labels=50257, tokens=True,
             without=("cupy",), tolerance=5e-2, tiny_program=gpt(1, 8, 2, 16, 4, halves=True)),
]  # fmt: skip


# One library ------------------------------------------------------------------------------------------------


def library(name: str, dry: bool) -> tuple[Library, Callable[[], Any] | None]:
    """A library that works on the GPU, and what makes an event of it, if there is such a thing."""
    if name == "cupy":
        m = Library("cupy", import_module("numpy" if dry else "cupy"))
        if dry:
            return m, None
        cuda = m.module.cuda
        m.__dict__["wait"] = lambda result: (cuda.Device().synchronize(), result)[1]
        m.__dict__["_array"] = lambda x: m.module.asnumpy(x)
        return m, _cupy_event
    m = LIBRARIES["torch.compile" if name in MODES else name]()
    m.name = name
    if name in MODES:
        m.__dict__["compile"] = partial(m.module.compile, mode="default" if dry else MODES[name])
    if name.startswith("tracejit"):
        if dry:
            from .backends.cuda.shim import device as shim

            shim.device.orders = shim.device.orders[:1]
        device = m.device = "gpusim" if dry else "cuda"
        m.__dict__["tensor"] = lambda array: m.module.tensor(array, device=device)
        m.__dict__["_array"] = lambda x: x.detach().cpu().numpy()
        if dry:
            return m, None
        cuda = import_module("cupy").cuda
        m.__dict__["wait"] = lambda result: (cuda.Device().synchronize(), result)[1]
        return m, _cupy_event
    if name.startswith("torch") and not dry:
        torch = m.module
        torch.set_default_device("cuda")
        to_tensor = m.tensor
        m.__dict__["tensor"] = lambda array: to_tensor(array).cuda()
        m.__dict__["wait"] = lambda result: (torch.cuda.synchronize(), result)[1]
        m.__dict__["_array"] = lambda x: x.detach().float().cpu().numpy()
        return m, lambda: torch.cuda.Event(enable_timing=True)
    return m, None


def _cupy_event() -> Any:
    from cupy import cuda

    return cuda.Event()


def elapsed(first: Any, last: Any) -> float:
    """Milliseconds between two events."""
    if hasattr(first, "elapsed_time"):
        return float(first.elapsed_time(last))
    from cupy import cuda

    return float(cuda.get_elapsed_time(first, last))


def measure(workload: Workload, m: Library, event: Callable[[], Any] | None, dry: bool) -> dict[str, Any]:
    size = sum(
        np.dtype(workload.dtype).itemsize * math.prod(shape) for shape in (workload.tiny if dry else workload.shapes)
    )
    sets = 1 if dry or not workload.bytes else max(1, min(8, ROTATED_BYTES // size + 1))
    inputs = [[m.tensor(array) for array in workload.arrays(dry, seed)] for seed in range(sets)]
    program = (workload.tiny_program or workload.program if dry else workload.program)(m)
    start = time.perf_counter()
    found = m.wait(program(*inputs[0]))
    row: dict[str, Any] = {"first_s": round(time.perf_counter() - start, 4)}
    row["values"] = [_summary(array) for array in m.values(found)]
    del found
    for number in range(3):
        m.wait(program(*inputs[number % sets]))
    start = time.perf_counter()
    m.wait(program(*inputs[0]))
    once = time.perf_counter() - start
    count = 1 if dry else max(1, min(200, round(SECONDS_OF_A_WORKLOAD / REPEATS / max(once, 1e-6))))
    device, host = [], []
    for _ in range(1 if dry else REPEATS):
        marks = (event(), event()) if event is not None else None
        start = time.perf_counter()
        if marks is not None:
            marks[0].record()
        for number in range(count):
            result = program(*inputs[number % sets])
        asked = time.perf_counter() - start
        if marks is not None:
            marks[1].record()
        m.wait(result)
        total = time.perf_counter() - start
        device.append((elapsed(*marks) / 1e3 if marks is not None else total) / count * 1e6)
        host.append(asked / count * 1e6)
    row |= {"us": round(statistics.median(device), 2), "host_us": round(statistics.median(host), 2)}
    row["spread"] = round((max(device) - min(device)) / max(row["us"], 1e-9), 3)
    if workload.bytes and not dry:
        row["GB/s"] = round(workload.bytes / row["us"] / 1e3, 1)
    if workload.flops and not dry:
        row["TFLOP/s"] = round(workload.flops / row["us"] / 1e6, 1)
    return row


def _summary(array: Any) -> list[float]:
    """What tells two results apart, in few numbers: sums with weights."""
    values, step = np.asarray(array).reshape(-1), WEIGHTS.size
    columns, squares = np.zeros(step), 0.0
    for start in range(0, values.size, 128 * step):  # in the CPU's cache: results have hundreds of megabytes
        part = values[start : start + 128 * step].astype(np.float64)
        squares += float(part @ part)
        part.resize(-(-part.size // step) * step, refcheck=False)
        columns += part.reshape(-1, step).sum(0)
    return [float(columns.sum()), float(columns @ WEIGHTS), math.sqrt(squares)]


def run_floors(file: Path, dry: bool) -> None:
    """What the GPU can do at the most, measured by CuPy: copies, and products of matrices."""
    m, event = library("cupy", dry)
    size, side = (1 << 10, 32) if dry else (1 << 29, 8192)

    def seconds(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(3 if dry else 10):
            marks = (event(), event()) if event is not None else None
            start = time.perf_counter()
            if marks is not None:
                marks[0].record()
            result = work()
            if marks is not None:
                marks[1].record()
            m.wait(result)
            times.append(elapsed(*marks) / 1e3 if marks is not None else time.perf_counter() - start)
        return statistics.median(times[1:])

    x = m.module.ones(size, np.float32)
    found = {"copy_GB/s": 8 * size / seconds(x.copy) / 1e9}
    for dtype in (np.float32, np.float16):
        matrix = m.module.asarray(np.random.default_rng(0).standard_normal((side, side)).astype(dtype))
        found[f"{np.dtype(dtype).name}_TFLOP/s"] = 2 * side**3 / seconds(lambda a=matrix: a @ a) / 1e12  # type: ignore[misc]
    file.write_text(json.dumps({key: round(value, 1 if value > 1 else 6) for key, value in found.items()}))


def compile_ahead(name: str) -> None:
    """Run each workload once, so that what is compiled for it is kept."""
    m, _ = library(name, dry=False)
    for workload in WORKLOADS:
        if is_compared(workload, name):
            with suppress(Exception):
                m.wait(workload.program(m)(*map(m.tensor, workload.arrays(False, 0))))


def is_compared(workload: Workload, name: str) -> bool:
    return name not in workload.without and (name != "torch.compile graphs" or workload.launch_bound)


def run_library(name: str, file: Path, deadline: float, dry: bool) -> int:
    """All workloads that the file does not have yet; a line of JSON for each, as soon as it is there."""
    known = {row["workload"] for row in rows_of(file)}
    m, event = library(name, dry)
    with file.open("a") as lines:
        for workload in WORKLOADS:
            if not is_compared(workload, name) or workload.name in known:
                continue
            row: dict[str, Any] = {"workload": workload.name, "library": name}
            if not dry:
                faulthandler.dump_traceback_later(MOST_SECONDS, exit=True)
            status = 0
            try:
                if time.time() > deadline:
                    raise TimeoutError("there was no time left")
                row |= measure(workload, m, event, dry)
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"[:300]
                try:
                    m.wait(None)
                except Exception:  # of a kernel: the GPU answers nothing else in this process from now on
                    status = AGAIN
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            if status:
                return status
    faulthandler.cancel_dump_traceback_later()
    return 0


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# All of them ------------------------------------------------------------------------------------------------


def output_of(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({type(error).__name__})"


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class Check:
    """The phases, and what they have found."""

    def __init__(self, out: Path, budget: float, dry: bool, names: Sequence[str]) -> None:
        self.out, self.dry, self.names = out, dry, names
        self.start = time.time()
        self.budget = budget
        self.kept = Path(tempfile.mkdtemp(prefix="gpu-check-"))  # of what compilers and processes keep
        out.mkdir(parents=True, exist_ok=True)
        packages = ("numpy", "llvmlite", "cupy-cuda13x", "torch", "jax", "pytest")
        self.found: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "commit": output_of("git", "rev-parse", "--short", "HEAD"),
            "gpu": "simulated" if dry else output_of(
                "nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,memory.total", "--format=csv,noheader"
            ),
            "python": platform.python_version(),
            "packages": {package: version_of(package) for package in packages},
            "phases": [],
            "rows": [],
        }  # fmt: skip

    @property
    def left(self) -> float:
        return self.start + self.budget - time.time()

    def phase(self, name: str, run: Callable[[float], str], share: float) -> None:
        start = time.time()
        limit = max(5.0, min(share, self.left - 5))
        try:
            result = run(limit)
        except subprocess.TimeoutExpired:
            result = "stopped: it took too long"
        except Exception as error:
            result = f"{type(error).__name__}: {error}"[:300]
        self.found["phases"].append({"phase": name, "result": result, "s": round(time.time() - start, 1)})
        self.write()

    def write(self) -> None:
        (self.out / "results.json").write_text(json.dumps(self.found, indent=1) + "\n")

    def tests(self, limit: float) -> str:
        """Each file in a process of its own: after an error of a kernel nothing works in the same one."""
        options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
        options += ["-k", "what_it_says"] if self.dry else []
        environment = self.environment() | {"TRACEJIT_TEST_DEVICE": "gpusim" if self.dry else "cuda"}
        running: dict[Path, subprocess.Popen[bytes]] = {}
        for name in TESTS[:1] if self.dry else TESTS:
            log = self.kept / f"{Path(name).stem}.log"
            with log.open("w") as file:
                command = [sys.executable, "-m", "pytest", *options, name]
                running[log] = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=environment)
        end, found, statuses = time.time() + limit, [], []
        for log, process in running.items():
            try:
                statuses.append(process.wait(max(0.1, end - time.time())))
            except subprocess.TimeoutExpired:
                process.kill()
                statuses.append(process.wait())
            found.append(f"{log.stem}: {log.read_text().strip().rpartition(chr(10))[2]}")
        (self.out / "tests.log").write_text("\n".join(log.read_text() for log in running))
        return f"exit status {next(filter(None, statuses), 0)}: {'; '.join(found)}"

    def library(self, name: str, limit: float) -> str:
        """The workloads, in one process after another where one ends before the last of them."""
        file = self.kept / f"{name}.jsonl"
        end, result = time.time() + limit, ""
        command = [sys.executable, "-m", "tests.gpu_check", "--library", name, "--out", str(file)]
        command += ["--deadline", str(end - 5), *(["--dry-run"] if self.dry else [])]
        compared = [workload.name for workload in WORKLOADS if is_compared(workload, name)]
        while not result:
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=max(0.1, end - time.time()), cwd=ROOT,
                    env=self.environment(),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                result = "stopped: it took too long"
                break
            missing = compared[len(rows_of(file)) :]
            if not file.exists():  # no such library
                result = f"exit status {done.returncode}: {done.stderr[-300:]}"
            elif not missing:
                result = "done"
            elif done.returncode != AGAIN:  # it has ended in the midst of the next one
                error = f"exit status {done.returncode}: {done.stderr[-300:]}"
                with file.open("a") as lines:
                    lines.write(json.dumps({"workload": missing[0], "library": name, "error": error}) + "\n")
        self.found["rows"] += rows_of(file)
        return result

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return os.environ | {
            "PYTHONPATH": path,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_COMPILATION_CACHE_DIR": str(self.kept / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TORCHINDUCTOR_CACHE_DIR": str(self.kept / "inductor"),
        }

    def floors(self, limit: float) -> str:
        file = self.kept / "floors.json"
        command = [sys.executable, "-m", "tests.gpu_check", "--library", "floors", "--out", str(file)]
        command += ["--dry-run"] if self.dry else []
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, cwd=ROOT, env=self.environment(), check=False
        )
        if done.returncode:
            return f"exit status {done.returncode}: {done.stderr[-300:]}"
        self.found["floors"] = json.loads(file.read_text())
        return ", ".join(f"{name} {value}" for name, value in self.found["floors"].items())

    def tests_and_compilers(self, limit: float) -> str:
        """The tests, with compilers at work beside them: nothing is timed yet."""
        ahead = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.gpu_check", "--ahead", name, "--out", str(self.out)],
                cwd=ROOT, env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for name in (() if self.dry else [name for name in self.names if name in KEPT])
        ]  # fmt: skip
        end = time.time() + limit
        try:
            result = self.tests(limit)
            for process in ahead:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, end - time.time()))
        finally:
            for process in ahead:
                process.kill()
                process.wait()
        return result

    def run(self) -> int:
        self.write()
        self.phase("tests", self.tests_and_compilers, self.budget * TEST_SHARE)
        self.phase("floors", self.floors, 60)
        for number, name in enumerate(self.names):
            self.phase(name, partial(self.library, name), self.left / (len(self.names) - number))
        self.judge()
        self.found["seconds"] = round(time.time() - self.start, 1)
        self.write()
        table = self.table()
        (self.out / "results.md").write_text(table + "\n")
        print(table)
        wrong = [row for row in self.found["rows"] if row["library"].startswith("tracejit") and not row.get("ok")]
        return 1 if wrong or not self.found["phases"][0]["result"].startswith("exit status 0") else 0

    def judge(self) -> None:
        """Whether what a library found is what most of the others did."""
        tolerances = {workload.name: workload.tolerance for workload in WORKLOADS}
        for row in self.found["rows"]:
            others = [
                other["values"] for other in self.found["rows"]
                if other["workload"] == row["workload"] and other is not row and "values" in other
            ]  # fmt: skip
            if "values" in row:
                close = [_agree(row["values"], other, tolerances[row["workload"]]) for other in others]
                row["ok"] = not close or sum(close) * 2 >= len(close)
        for row in self.found["rows"]:
            row.pop("values", None)

    def table(self) -> str:
        """Microseconds by workload and library, as Markdown; what is ours beside the best other and the floors."""
        by_key = {(row["workload"], row["library"]): row for row in self.found["rows"]}
        lines = [f"GPU check of {self.found['commit']}, {self.found['date']}: {self.found['gpu']}", ""]
        lines += [
            f"| µs | {' | '.join(self.names)} | best other / tracejit | of the most |",
            "|---" * (len(self.names) + 3) + "|",
        ]
        for workload in WORKLOADS:
            found = [by_key.get((workload.name, name), {}) for name in self.names]
            cells = [_cell(row) for row in found]
            others = [
                row["us"] for name, row in zip(self.names, found, strict=True)
                if "us" in row and not name.startswith("tracejit")
            ]  # fmt: skip
            ours = by_key.get((workload.name, "tracejit"), {})
            ratio = f"{min(others) / ours['us']:.2f}" if others and "us" in ours else ""
            lines.append(f"| {workload.name} | {' | '.join(cells)} | {ratio} | {self._of_the_most(ours)} |")
        lines += ["", *(f"{name}: {value}" for name, value in self.found.get("floors", {}).items())]
        lines += ["", "| phase | result | s |", "|---|---|---|"]
        lines += [f"| {p['phase']} | {p['result']} | {p['s']} |" for p in self.found["phases"]]
        return "\n".join(lines)

    def _of_the_most(self, row: dict[str, Any]) -> str:
        """Which part of the copies' or products' speed a row has."""
        floors = self.found.get("floors", {})
        most = "float16" if row.get("workload", "").endswith("bf16") else "float32"
        pairs = (("GB/s", "copy_GB/s"), ("TFLOP/s", f"{most}_TFLOP/s"))
        return ", ".join(f"{row[own] / floors[most]:.0%}" for own, most in pairs if own in row and most in floors)


def _agree(ours: list[list[float]], theirs: list[list[float]], tolerance: float) -> bool:
    if len(ours) != len(theirs):
        return False
    for first, second in zip(ours, theirs, strict=True):
        scale = max(abs(first[2]), abs(second[2]), 1e-30)  # the norm
        if not all(abs(a - b) <= tolerance * scale for a, b in zip(first, second, strict=True)):
            return False
    return True


def _cell(row: dict[str, Any]) -> str:
    if "us" not in row:
        return str(row.get("error", ""))[:40]
    speed = f" ({row['GB/s']} GB/s)" if "GB/s" in row else ""
    return f"{row['us']}{speed}{'' if row.get('ok') else ' WRONG'}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for results and tests.log")
    parser.add_argument("--budget", type=float, default=520, help="seconds for all of it (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="on a simulated GPU, small: needs g++ alone")
    every = ",".join(NAMES).replace("tracejit, eager", "tracejit+eager")
    parser.add_argument("--only", default=every, help="libraries, with commas between them (%(default)s)")
    parser.add_argument("--library", help=argparse.SUPPRESS)
    parser.add_argument("--ahead", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=math.inf, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.ahead:
        compile_ahead(given.ahead)
        return 0
    if given.library == "floors":
        run_floors(given.out, given.dry_run)
        return 0
    if given.library:
        return run_library(given.library, given.out, given.deadline, given.dry_run)
    names = [name.replace("tracejit+eager", "tracejit, eager") for name in given.only.split(",")]
    if unknown := set(names) - set(NAMES):
        parser.error(f"--only: no such library: {', '.join(sorted(unknown))}")
    return Check(given.out, given.budget, given.dry_run, names).run()


if __name__ == "__main__":
    sys.exit(main())
