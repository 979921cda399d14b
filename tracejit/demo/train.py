"""The demo: a digit classifier trained twice with the same function, eagerly and compiled."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim
from tracejit.demo.digits import load_digits
from tracejit.device import why_no_cuda
from tracejit.jit import JittedFunction

TRAIN, BATCH = 1437, 64
IR_COLUMNS = 128

Batch = tuple[tj.Tensor, tj.Tensor]


@dataclass
class Data:
    """Images ``float32[n, 64]`` from 0 to 1 and labels ``int64[n]``, shuffled once and for all, then split."""

    images: np.ndarray
    labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray

    def batches(self, order: np.ndarray) -> Iterator[Batch]:
        """The training images in an order, by 64; the last batch is smaller."""
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            yield tj.tensor(self.images[chosen]), tj.tensor(self.labels[chosen])


def load_data() -> Data:
    """The digits, 1,437 to train on and 360 held out."""
    images, labels = load_digits()
    order = np.random.default_rng(0).permutation(len(images))
    x = (images.reshape(-1, 64).astype(np.float32) / 16)[order]
    y = labels.astype(np.int64)[order]
    return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


@dataclass
class Run:
    """What one training gave: every step's loss, the times, the accuracy on the images held out."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of each step
    first_of_its_shape: list[int] = field(default_factory=list)  # steps that may have compiled
    accuracy: float = 0.0
    step: Callable[..., Any] | None = None

    @property
    def steps_per_second(self) -> float:
        """Of the steps that did not compile."""
        usual = [s for number, s in enumerate(self.seconds) if number not in self.first_of_its_shape]
        return len(usual) / sum(usual) if usual else 0.0

    @property
    def compile_seconds(self) -> float:
        """How much longer the first step of each batch shape took than a usual one."""
        first = sum(self.seconds[number] for number in self.first_of_its_shape)
        rate = self.steps_per_second
        return first - len(self.first_of_its_shape) / rate if rate else first


def train(data: Data, epochs: int, seed: int, progress: Progress, *, compiled: bool) -> Run:
    """Train a new model; the same seed gives the same start and the same batches."""
    tj.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    opt = optim.Adam(model.parameters(), lr=3e-3)

    def train_step(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    step: Callable[..., Any] = tj.jit(train_step) if compiled else train_step
    run = Run(step=step)
    shapes: set[Any] = set()
    shuffle = np.random.default_rng(seed)
    for epoch in range(epochs):
        first = len(run.losses)
        for x, y in data.batches(shuffle.permutation(TRAIN)):
            if x.shape not in shapes:
                shapes.add(x.shape)
                run.first_of_its_shape.append(len(run.losses))
            start = time.perf_counter()
            loss = step(x, y)
            run.seconds.append(time.perf_counter() - start)
            run.losses.append(loss.item())
        progress.show(epoch + 1, epochs, float(np.mean(run.losses[first:])))
    with tj.no_grad():
        guesses = model(tj.tensor(data.held_out_images)).argmax(1)
    run.accuracy = float((guesses.numpy() == data.held_out_labels).mean())
    return run


class Progress:
    """A bar on a terminal, a line every five epochs elsewhere."""

    def __init__(self, title: str, out: TextIO) -> None:
        self._title, self._out, self._live = title, out, out.isatty()

    def show(self, epoch: int, epochs: int, loss: float) -> None:
        """Tell how far the training is, and the epoch's mean loss."""
        text = f"{self._title:8} epoch {epoch:3d}/{epochs}  loss {loss:.4f}"
        if self._live:
            done = 30 * epoch // epochs
            bar = "█" * done + "░" * (30 - done)
            self._out.write(f"\r{text}  {bar}{chr(10) if epoch == epochs else ''}")
            self._out.flush()
        elif epoch % 5 == 0 or epoch in (1, epochs):
            print(text, file=self._out)


def run_demo(epochs: int = 30, device: str = "cpu", seed: int = 0, out: TextIO | None = None) -> int:
    """Run the demo and print what it finds; 0 where eager and compiled agree to the bit, 1 where not.

    2 says that the device is not there.
    """
    out = out or sys.stdout
    if device.split(":")[0] == "cuda":
        print(f"The demo cannot run on {device!r}: {why_no_cuda()}", file=out)
        return 2
    if device != "cpu":
        print(f"Unknown device {device!r}: expected 'cpu' or 'cuda'", file=out)
        return 2
    data = load_data()
    print(f"Handwritten digits: {TRAIN:,} images to train on, {len(data.held_out_labels)} held out.", file=out)
    print("A 64→128→10 perceptron, cross entropy, Adam; the same train_step twice.\n", file=out)
    eager = train(data, epochs, seed, Progress("eager", out), compiled=False)
    jitted = train(data, epochs, seed, Progress("@tj.jit", out), compiled=True)
    same = _report(eager, jitted, out)
    _show_ir(data, jitted, out)
    return 0 if same else 1


def _report(eager: Run, jitted: Run, out: TextIO) -> bool:
    """Print both runs side by side; whether their losses are the same at every step."""
    differing = [i for i, (a, b) in enumerate(zip(eager.losses, jitted.losses, strict=True)) if _bits(a) != _bits(b)]
    print(file=out)
    print(f"{'':8} {'steps/s':>9} {'compiling':>10} {'held-out accuracy':>18}", file=out)
    print(f"{'eager':8} {eager.steps_per_second:9,.0f} {'':>10} {eager.accuracy:18.1%}", file=out)
    compiling = f"{jitted.compile_seconds * 1e3:,.0f} ms"
    print(f"{'@tj.jit':8} {jitted.steps_per_second:9,.0f} {compiling:>10} {jitted.accuracy:18.1%}", file=out)
    faster = jitted.steps_per_second / eager.steps_per_second if eager.steps_per_second else 0.0
    print(f"\nCompiled, a step is {faster:.1f} times as fast.", file=out)
    if differing:
        at = differing[0]
        print(
            f"The losses DIFFER at {len(differing)} of {len(eager.losses)} steps, first at step {at}: "
            f"{eager.losses[at]!r} and {jitted.losses[at]!r}.",
            file=out,
        )
    else:
        print(f"The losses of all {len(eager.losses)} steps agree bit for bit.", file=out)
    return not differing


def _bits(number: float) -> bytes:
    return np.float64(number).tobytes()


def _show_ir(data: Data, jitted: Run, out: TextIO) -> None:
    """An excerpt of the program that the compiled steps ran."""
    assert isinstance(jitted.step, JittedFunction)
    x, y = next(data.batches(np.arange(BATCH)))
    lines = jitted.step.ir(x, y).splitlines()
    print(f"\nFrom print(train_step.ir(x, y)), {len(lines)} lines for forward, backward and Adam:\n", file=out)
    for line in _excerpt(lines):
        print(line if len(line) <= IR_COLUMNS else line[: IR_COLUMNS - 1] + "…", file=out)


def _excerpt(lines: list[str]) -> Iterator[str]:
    """The lines where the inputs, the forward pass and the gradient begin, and the last update."""
    body = next(number for number, line in enumerate(lines) if line.endswith("{")) + 1
    loss = next(number for number, line in enumerate(lines) if line.startswith("  %loss"))
    end = next(number for number, line in enumerate(lines) if line.startswith("  return"))
    shown = [*range(4), *range(body, body + 4), *range(loss, loss + 3), end - 1, len(lines) - 1]
    previous = -1
    for number in sorted(set(shown)):
        if number > previous + 1:
            yield f"  … {number - previous - 1} lines …"
        yield lines[number]
        previous = number
