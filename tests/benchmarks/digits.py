"""One implementation of the demo's training, timed: ``python -m tests.benchmarks.digits NAME``.

The job is the same for all: 30 epochs over 1,437 handwritten digits, batch 64 and the smaller last one,
a 64→128→10 network with ReLU, cross-entropy and Adam.  Imports and loading the data are not counted; compiling
is.  Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS, BATCH, TRAIN = 30, 64, 1437
Step = Callable[[Any, Any], Any]


def load() -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1] and labels of the training digits, in a fixed random order."""
    data = np.load(Path(__file__).parents[2] / "tracejit" / "demo" / "digits.npz")
    images, labels = (data[name] for name in sorted(data.files))
    order = np.random.default_rng(0).permutation(len(images))[:TRAIN]
    pixels = images.reshape(len(images), -1)[order].astype(np.float32) / 16
    return pixels, labels[order].astype(np.int64)


def weights() -> list[np.ndarray]:
    """The first layer's weight and bias, then the second's."""
    generator = np.random.default_rng(1)
    shapes = [((128, 64), 64), ((128,), 64), ((10, 128), 128), ((10,), 128)]
    return [generator.uniform(-(n**-0.5), n**-0.5, shape).astype(np.float32) for shape, n in shapes]


def tracejit(jitted: bool) -> tuple[Step, Callable[[np.ndarray], Any], Callable[[Any], float]]:
    import llvmlite.binding  # noqa: F401  (what jit loads at its first call)

    import tracejit as tj
    import tracejit.nn.functional as F
    import tracejit.recording
    from tracejit import nn, optim

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with tj.no_grad():
        for parameter, value in zip(model.parameters(), weights(), strict=True):
            parameter.copy_(value)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return tj.jit(step) if jitted else step, tj.tensor, lambda loss: loss.item()


def torch(compiled: bool) -> tuple[Step, Callable[[np.ndarray], Any], Callable[[Any], float]]:
    import torch
    import torch.nn.functional as F
    from torch import nn

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights(), strict=True):
            parameter.copy_(torch.from_numpy(value))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return torch.compile(step) if compiled else step, torch.from_numpy, lambda loss: loss.item()


def jax() -> tuple[Step, Callable[[np.ndarray], Any], Callable[[Any], float]]:
    import jax
    import jax.numpy as jnp

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2 = parameters
        logits = jax.nn.relu(x @ w1.T + b1) @ w2.T + b2
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()

    @jax.jit
    def update(state: Any, x: Any, y: Any) -> Any:
        parameters, first, second, count = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        count = count + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        scale, root = 1e-3 / (1 - 0.9**count), (1 - 0.999**count) ** 0.5
        parameters = [
            p - scale * m / (jnp.sqrt(v) / root + 1e-8) for p, m, v in zip(parameters, first, second, strict=True)
        ]
        return (parameters, first, second, count), loss

    start = [jnp.asarray(w) for w in weights()]
    state = [(start, [0 * w for w in start], [0 * w for w in start], jnp.float32(0))]

    def step(x: Any, y: Any) -> Any:
        state[0], loss = update(state[0], x, y)
        return loss

    return step, jnp.asarray, lambda loss: float(loss)


IMPLEMENTATIONS: dict[str, Callable[[], tuple[Step, Callable[[np.ndarray], Any], Callable[[Any], float]]]] = {
    "tracejit": lambda: tracejit(False),
    "tracejit jit": lambda: tracejit(True),
    "torch": lambda: torch(False),
    "torch.compile": lambda: torch(True),
    "jax.jit": jax,
}


def measure(name: str) -> dict[str, Any]:
    """Seconds for the whole training, for its first step and the first smaller batch, and per step once all is warm."""
    pixels, labels = load()
    step, convert, value = IMPLEMENTATIONS[name]()
    batches = [(convert(pixels[i : i + BATCH]), convert(labels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
    start = time.perf_counter()
    loss = value(step(*batches[0]))
    first = time.perf_counter() - start
    for batch in batches[1:]:
        loss = step(*batch)
    for _ in range(EPOCHS - 1):
        for batch in batches:
            loss = step(*batch)
    final = value(loss)
    total = time.perf_counter() - start
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        for batch in batches[:-1]:
            loss = step(*batch)
        value(loss)
        times.append((time.perf_counter() - begin) / (len(batches) - 1))
    return {
        "name": name,
        "total_s": total,
        "first_step_s": first,
        "step_s": statistics.median(times),
        "final_loss": final,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
