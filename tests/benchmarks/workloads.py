"""The table of workloads: a name, the inputs, the program, and what it costs at the least.

``program(library)`` makes what is timed, a function of the input tensors; ``others`` has the programs of libraries
for which another is the natural one, ``None`` where there is none.  ``flops`` and ``passes`` give the floor: in each
pass each input is read once and each result written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from . import models
from .libraries import Library

Make = Callable[[np.random.Generator], np.ndarray]
Program = Callable[[Library], Callable[..., Any]]


def normal(*shape: int, dtype: Any = np.float32) -> Make:
    return lambda generator: generator.standard_normal(shape).astype(dtype)


def uniform(low: float, high: float, *shape: int, dtype: Any = np.float32) -> Make:
    return lambda generator: generator.uniform(low, high, shape).astype(dtype)


def integers(stop: int, *shape: int) -> Make:
    return lambda generator: generator.integers(0, stop, shape)


def complex_normal(*shape: int) -> Make:
    return lambda generator: (generator.standard_normal((*shape, 2)).astype(np.float32)).view(np.complex64)[..., 0]


@dataclass(frozen=True)
class Workload:
    name: str
    inputs: tuple[Make, ...]
    program: Program
    flops: float = 0
    passes: int = 1
    others: dict[str, Program | None] = field(default_factory=dict)

    def program_for(self, library: str) -> Program | None:
        return self.others.get(library, None if library == "numba" else self.program)

    def arrays(self) -> list[np.ndarray]:
        generator = np.random.default_rng(0)
        return [make(generator) for make in self.inputs]


def of(function: Callable[..., Any]) -> Program:
    """The program that is ``function(library, *tensors)``, compiled where the library compiles."""
    return lambda m: m.compile(partial(function, m))


def loops(name: str) -> dict[str, Program | None]:
    """Numba's program: the function of that name in :mod:`.loops`."""
    return {"numba": lambda m: getattr(m.loops, name)}


# Maps -------------------------------------------------------------------------------------------------


def gelu(m: Library, x: Any) -> Any:
    return 0.5 * x * (1 + m.erf(x * 0.7071067811865476))


def black_scholes(m: Library, price: Any, strike: Any, time: Any) -> Any:
    rate, volatility = 0.02, 0.3
    root = volatility * m.sqrt(time)
    d1 = (m.log(price / strike) + (rate + volatility * volatility / 2) * time) / root
    d2 = d1 - root
    cdf1, cdf2 = (0.5 + 0.5 * m.erf(d * 0.7071067811865476) for d in (d1, d2))
    return price * cdf1 - strike * m.exp(-rate * time) * cdf2


def escape_time(m: Library, cr: Any, ci: Any) -> Any:
    """Steps of z = z² + c until |z| > 2, at most 30."""
    zr, zi, count = cr, ci, 0 * cr
    for _ in range(30):
        inside = zr * zr + zi * zi <= 4.0
        count = count + m.where(inside, 1.0, 0.0)
        zr, zi = m.where(inside, zr * zr - zi * zi + cr, zr), m.where(inside, 2.0 * zr * zi + ci, zi)
    return count


def log_sum_exp(m: Library, x: Any, y: Any) -> Any:
    larger = m.maximum(x, y)
    return larger + m.log(m.exp(x - larger) + m.exp(y - larger))


def complex_map(m: Library, z: Any, w: Any) -> Any:
    return (z * w + z) / (w * w + 2.0)


# Rows and reductions ----------------------------------------------------------------------------------


def softmax(m: Library, x: Any) -> Any:
    powers = m.exp(x - m.max(x, axis=-1, keepdims=True))
    return powers / m.sum(powers, axis=-1, keepdims=True)


def layer_norm(m: Library, x: Any, weight: Any, bias: Any) -> Any:
    centred = x - m.mean(x, axis=-1, keepdims=True)
    variance = m.mean(centred * centred, axis=-1, keepdims=True)
    return centred / m.sqrt(variance + 1e-5) * weight + bias


def rms_norm(m: Library, x: Any, weight: Any) -> Any:
    return x / m.sqrt(m.mean(x * x, axis=-1, keepdims=True) + 1e-5) * weight


def softmax_gradient(m: Library, x: Any, g: Any) -> Any:
    y = softmax(m, x)
    return y * (g - m.sum(y * g, axis=-1, keepdims=True))


# Stencils ---------------------------------------------------------------------------------------------


def heat(m: Library, u: Any, steps: int = 10) -> Any:
    """Steps of the heat equation on a grid of any dimension, the border fixed."""
    inner = (slice(1, -1),) * u.ndim
    for _ in range(steps):
        change = -2.0 * u.ndim * u[inner]
        for axis in range(u.ndim):
            for part in (slice(2, None), slice(None, -2)):
                change = change + u[tuple(part if i == axis else s for i, s in enumerate(inner))]
        u = m.updated(u, inner, u[inner] + 0.1 * change)
    return u


# Products ---------------------------------------------------------------------------------------------


def linear_gelu(m: Library, x: Any, weight: Any, bias: Any) -> Any:
    return gelu(m, m.matmul(x, weight) + bias)


def attention(m: Library, q: Any, k: Any, v: Any) -> Any:
    return m.F.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention_written_out(m: Library, q: Any, k: Any, v: Any) -> Any:
    length = q.shape[-2]
    scores = m.matmul(q, m.matrix_transpose(k)) * (q.shape[-1] ** -0.5)
    mask = m.asarray(np.tri(length, dtype=bool))
    return m.matmul(softmax(m, m.where(mask, scores, -m.inf)), v)


def convolution(m: Library, x: Any, weight: Any) -> Any:
    return m.F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def convolution_jax(m: Library, x: Any, weight: Any) -> Any:
    return m.jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))


def product(m: int, k: int, n: int, dtype: Any = np.float32, batch: tuple[int, ...] = (), **others: Any) -> Any:
    name = {"float32": "f32", "float64": "f64", "bfloat16": "bf16"}[np.dtype(dtype).name]
    shape = f"{'×'.join(map(str, batch))}×({m}×{k}×{n})" if batch else f"{m}×{k}×{n}"
    inputs = normal(*batch, m, k, dtype=dtype), normal(*batch, k, n, dtype=dtype)
    flops = 2 * math.prod((*batch, m, k, n))
    return Workload(
        f"matmul {shape} {name}", inputs, of(lambda lib, a, b: lib.matmul(a, b)), flops=flops, others=others
    )


# Loops ------------------------------------------------------------------------------------------------


def n_body(m: Library, position: Any, velocity: Any, mass: Any) -> Any:
    """One step of gravity, softened."""
    offset = position[None, :, :] - position[:, None, :]
    distance = m.sum(offset * offset, axis=-1) + 1e-3
    pull = mass[None, :] / (distance * m.sqrt(distance))
    velocity = velocity + 0.01 * m.sum(offset * pull[:, :, None], axis=1)
    return position + 0.01 * velocity, velocity


def cube_root(m: Library, x: Any) -> Any:
    """Newton's method until nothing moves by more than 1e-5."""
    y = 0 * x + 1
    step = y
    while m.max(m.abs(step)) > 1e-5:
        step = (y - x / (y * y)) / 3
        y = y - step
    return y


def cube_root_jax(m: Library, x: Any) -> Any:
    def body(state: Any) -> Any:
        y, _ = state
        step = (y - x / (y * y)) / 3
        return y - step, step

    start = 0 * x + 1
    return m.jax.lax.while_loop(lambda state: m.max(m.abs(state[1])) > 1e-5, body, (start, start))[0]


ODE_STEPS = 10_000


def pendulums(y: Any, coupling: Any) -> Any:
    """The change of four coupled pendulums, eight values."""
    return coupling @ y - 0.1 * y * y * y


def midpoint_step(y: Any, coupling: Any) -> Any:
    return y + 1e-3 * pendulums(y + 5e-4 * pendulums(y, coupling), coupling)


def ode(m: Library, y: Any, coupling: Any) -> Any:
    for _ in range(ODE_STEPS):
        y = midpoint_step(y, coupling)
    return y


def ode_jax(m: Library, y: Any, coupling: Any) -> Any:
    return m.jax.lax.fori_loop(0, ODE_STEPS, lambda _, y: midpoint_step(y, coupling), y)


# Models -----------------------------------------------------------------------------------------------


def model(
    name: str, make: Any, in_jax: Any, shapes: models.Shapes, x: Make, y: Make, flops: float
) -> tuple[Workload, Workload]:
    """Its inference and its training step; ``flops`` of the forward pass."""
    return (
        Workload(
            f"{name}, inference", (x,), models.inference(make), flops=flops,
            others={"numpy": None, "jax": models.inference_jax(in_jax, shapes)},
        ),
        Workload(
            f"{name}, training step", (x, y), models.training(make), flops=3 * flops,
            others={"numpy": None, "jax": models.training_jax(in_jax, shapes)},
        ),
    )  # fmt: skip


def gpt_model(layers: int, width: int, heads: int, batch: int, time: int = 128) -> tuple[Workload, Workload]:
    flops = 2 * batch * time * (layers * (12 * width * width + time * width) + 512 * width)
    return model(
        f"GPT {layers}×{width}", partial(models.gpt, layers=layers, width=width, heads=heads),
        partial(models.gpt_jax, heads=heads), models.gpt_shapes(layers, width),
        integers(512, batch, time), integers(512, batch, time), flops,
    )  # fmt: skip


NO_LIBRARY: dict[str, Program | None] = {"numpy": None}
LARGE, ROWS, WIDE = 1 << 24, (4096, 1024), (64, 50257)

WORKLOADS: list[Workload] = [
    *(Workload(f"GELU {n}", (normal(n),), of(gelu), others=loops("gelu")) for n in (16, 1024, 1 << 20, LARGE)),
    Workload(
        "Black-Scholes 1M",
        (uniform(50, 150, 1 << 20), uniform(50, 150, 1 << 20), uniform(0.1, 2, 1 << 20)),
        of(black_scholes), others=loops("black_scholes"),
    ),
    Workload("escape time 1M", (uniform(-2, 1, 1 << 20), uniform(-1.5, 1.5, 1 << 20)), of(escape_time),
             others=loops("escape_time")),
    Workload("log-sum-exp 1M", (normal(1 << 20), normal(1 << 20)), of(log_sum_exp), others=loops("log_sum_exp")),
    Workload("complex 1M", (complex_normal(1 << 20), complex_normal(1 << 20)), of(complex_map),
             others=loops("complex_map")),
    *(
        Workload(f"{name} {rows}×{columns}", (normal(rows, columns), *(normal(columns),) * extra), of(function))
        for name, function, extra in (("softmax", softmax, 0), ("layer norm", layer_norm, 2), ("RMS norm", rms_norm, 1))
        for rows, columns in (ROWS, WIDE)
    ),
    Workload("softmax and gradient 4096×1024", (normal(*ROWS), normal(*ROWS)), of(softmax_gradient)),
    Workload("sum 16M", (normal(LARGE),), of(lambda m, x: m.sum(x))),
    Workload("sum of rows 4096×4096", (normal(4096, 4096),), of(lambda m, x: m.sum(x, axis=1))),
    Workload("sum of columns 4096×4096", (normal(4096, 4096),), of(lambda m, x: m.sum(x, axis=0))),
    Workload("argmax 4096×1024", (normal(*ROWS),), of(lambda m, x: m.argmax(x, axis=1))),
    Workload("cumulative sum 4096×1024", (normal(*ROWS),), of(lambda m, x: m.cumulative_sum(x, axis=1)),
             others=loops("cumulative_sum")),
    Workload("sort 1M", (normal(1 << 20),), of(lambda m, x: m.sort(x))),
    Workload("histogram 1M", (normal(1 << 20),), of(lambda m, x: m.histogram(x, 64, (-4.0, 4.0)))),
    Workload("transposed copy 4096×1024", (normal(*ROWS),), of(lambda m, x: m.matrix_transpose(x) + 1.0),
             others={"numpy": of(lambda m, x: np.ascontiguousarray(x.T) + 1.0),
                     "torch": of(lambda m, x: x.T.contiguous() + 1.0),
                     "torch.compile": of(lambda m, x: x.T.contiguous() + 1.0)}),
    Workload("heat 1024², 10 steps", (normal(1024, 1024),), of(heat), passes=10, others=loops("heat")),
    Workload("heat 128³, 10 steps", (normal(128, 128, 128),), of(heat), passes=10, others=loops("heat")),
    *(product(n, n, n) for n in (4, 16, 64, 256, 512, 1024, 2048)),
    *(product(n, n, n, np.float64) for n in (64, 512, 1024)),
    product(1024, 1024, 1024, ml_dtypes.bfloat16, numpy=None),
    product(64, 64, 64, batch=(64,)),
    product(4096, 4096, 1),
    product(1, 4096, 4096),
    Workload("linear and GELU 1024³", (normal(1024, 1024), normal(1024, 1024), normal(1024)), of(linear_gelu),
             flops=2 << 30),
    Workload("matmul of transposes 1024³", (normal(1024, 1024), normal(1024, 1024)),
             of(lambda m, a, b: m.matmul(a.T, b.T)), flops=2 << 30),
    *(
        Workload(
            f"convolution {size}×{size}, {channels} channels",
            (normal(8, channels, pixels, pixels), normal(64, channels, size, size)), of(convolution),
            flops=2 * 8 * 64 * channels * size * size * pixels * pixels,
            others={**NO_LIBRARY, "jax": of(convolution_jax)},
        )
        for size, channels, pixels in ((3, 64, 56), (1, 256, 28))
    ),
    Workload(
        "attention, causal, 8 heads, 512 tokens", (normal(1, 8, 512, 64),) * 3, of(attention),
        flops=2 * 8 * 512 * 512 * 64,
        others={"numpy": of(attention_written_out), "jax": of(attention_written_out)},
    ),
    *model("MLP", models.mlp, models.mlp_jax, models.mlp_shapes(), normal(128, 784), integers(10, 128),
           2 * 128 * (784 * 512 + 512 * 512 + 5120)),
    *model("CNN", models.cnn, models.cnn_jax, models.cnn_shapes(), normal(32, 3, 32, 32), integers(10, 32),
           2 * 32 * (1024 * (27 * 32 + 288 * 32) + 256 * 288 * 64 + 40960)),
    *model("LSTM 200 steps", models.lstm, models.lstm_jax, models.lstm_shapes(), normal(200, 16, 64),
           integers(10, 16), 2 * 200 * 16 * 512 * (64 + 128)),
    *gpt_model(4, 128, 4, 8),
    *gpt_model(6, 384, 6, 8),
    Workload("n-body 512 f64", (normal(512, 3, dtype=np.float64), normal(512, 3, dtype=np.float64),
             uniform(1, 2, 512, dtype=np.float64)), of(n_body), flops=512 * 512 * 20, others=loops("n_body")),
    Workload("Newton, while loop, 1k", (uniform(1, 9, 1024),), of(cube_root),
             others={"jax": of(cube_root_jax), **loops("cube_root")}),
    Workload(f"ODE {ODE_STEPS} steps", (normal(8), normal(8, 8)), of(ode), flops=ODE_STEPS * 2 * 160,
             others={"jax": of(ode_jax), "torch.compile": None, **loops("ode")}),
]  # fmt: skip
