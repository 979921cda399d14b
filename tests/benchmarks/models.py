"""The models that are trained: written once for tracejit and PyTorch, whose layers have the same names, and for JAX.

All start from the same weights, drawn in the order in which the layers are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .libraries import Library

Shapes = list[tuple[int, ...]]
LEARNING_RATE, BETAS, EPSILON = 1e-3, (0.9, 0.999), 1e-8


def mlp(m: Library, width: int = 512) -> Any:
    """Three layers, for rows of 784."""
    nn = m.nn
    sizes = [(784, width), (width, width), (width, 10)]
    first, second, third = (nn.Linear(*size) for size in sizes)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def mlp_jax(m: Library, p: Sequence[Any], x: Any) -> Any:
    w1, b1, w2, b2, w3, b3 = p
    relu = m.jax.nn.relu
    return relu(relu(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3


def cnn(m: Library) -> Any:
    """Three convolutions, for images of 3×32×32."""
    nn = m.nn
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 8 * 8, 10),
    )  # fmt: skip


def cnn_jax(m: Library, p: Sequence[Any], x: Any) -> Any:
    x = pooled_jax(m, convolved_jax(m, convolved_jax(m, x, p[0], p[1]), p[2], p[3]))
    x = pooled_jax(m, convolved_jax(m, x, p[4], p[5]))
    return x.reshape(x.shape[0], -1) @ p[6].T + p[7]


def convolved_jax(m: Library, x: Any, weight: Any, bias: Any) -> Any:
    layout = ("NCHW", "OIHW", "NCHW")
    y = m.jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout)
    return m.jax.nn.relu(y + bias[:, None, None])


def pooled_jax(m: Library, x: Any) -> Any:
    return m.jax.lax.reduce_window(x, -m.inf, m.jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def gpt(m: Library, layers: int, width: int, heads: int, words: int = 512, length: int = 128) -> Any:
    nn, F = m.nn, m.F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.norm2, self.up, self.down = (
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            batch, time, _ = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(batch, time, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(words, width), nn.Embedding(length, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.positions(m.arange(tokens.shape[1], device=tokens.device))
            return self.head(self.norm(self.blocks(x)))

    return GPT()


def gpt_jax(m: Library, p: Sequence[Any], tokens: Any, heads: int) -> Any:
    jax = m.jax

    def normalized(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred / m.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight + bias

    p = list(p)
    x = p[0][tokens] + p[1][: tokens.shape[1]]
    batch, time, width = x.shape
    mask = m.tril(m.ones((time, time), bool))
    for at in range(2, len(p) - 3, 12):
        g1, b1, wqkv, bqkv, wo, bo, g2, b2, wu, bu, wd, bd = p[at : at + 12]
        qkv = (normalized(x, g1, b1) @ wqkv.T + bqkv).reshape(batch, time, 3, heads, width // heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = m.where(mask, q @ k.swapaxes(-1, -2) * (width // heads) ** -0.5, -m.inf)
        mixed = jax.nn.softmax(scores) @ v
        x = x + mixed.transpose(0, 2, 1, 3).reshape(batch, time, width) @ wo.T + bo
        x = x + jax.nn.gelu(normalized(x, g2, b2) @ wu.T + bu) @ wd.T + bd
    return normalized(x, p[-3], p[-2]) @ p[-1].T


def lstm(m: Library, inputs: int = 64, hidden: int = 128) -> Any:
    nn = m.nn

    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(inputs, hidden), nn.Linear(hidden, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x)[0][-1])

    return Sequence()


def lstm_jax(m: Library, p: Sequence[Any], x: Any) -> Any:
    lax, sigmoid = m.jax.lax, m.jax.nn.sigmoid
    w, v, bw, bv, head, bias = p
    from_input = x @ w.T + bw
    start = m.zeros((x.shape[1], v.shape[1]), x.dtype)

    def step(state: Any, into: Any) -> Any:
        h, c = state
        i, f, g, o = m.split(into + h @ v.T + bv, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * m.tanh(g)
        return (sigmoid(o) * m.tanh(c), c), None

    (h, _), _ = lax.scan(step, (start, start), from_input)
    return h @ head.T + bias


# Running them -----------------------------------------------------------------------------------------


def drawn(shapes: Shapes) -> list[np.ndarray]:
    """Weights: matrices around 0, scaled by how many products they sum; vectors around 1, for they scale in norms."""
    generator = np.random.default_rng(1)
    bounds = [(-1, 1) if len(shape) > 1 else (0.9, 1.1) for shape in shapes]
    return [
        (generator.uniform(*bound, shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)
        for bound, shape in zip(bounds, shapes, strict=True)
    ]


def loaded(m: Library, model: Any) -> Any:
    """The model, with the drawn weights."""
    parameters = list(model.parameters())
    no_grad = m.module.no_grad
    with no_grad():
        for parameter, array in zip(parameters, drawn([tuple(p.shape) for p in parameters]), strict=True):
            parameter.copy_(m.tensor(array))
    return model if m.device is None else model.to(m.device)


def inference(model: Callable[[Library], Any]) -> Callable[[Library], Any]:
    def make(m: Library) -> Any:
        network = loaded(m, model(m)).eval()
        return m.compile(m.module.no_grad()(lambda x: network(x)))

    return make


def training(model: Callable[[Library], Any], *, halves: bool = False) -> Callable[[Library], Any]:
    """A whole step with Adam, which returns the loss; with ``halves`` all but the loss is in bfloat16."""

    def make(m: Library) -> Any:
        network = loaded(m, model(m))
        if halves:
            network = network.bfloat16()
        optimizer = m.optim.Adam(network.parameters(), lr=LEARNING_RATE)

        def step(x: Any, y: Any) -> Any:
            logits = network(x)
            loss = m.F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), y.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return m.compile(step)

    return make


def inference_jax(model: Callable[..., Any], shapes: Shapes) -> Callable[[Library], Any]:
    def make(m: Library) -> Any:
        parameters = [m.asarray(array) for array in drawn(shapes)]
        run = m.jax.jit(lambda parameters, x: model(m, parameters, x))
        return lambda x: run(parameters, x)

    return make


def training_jax(model: Callable[..., Any], shapes: Shapes, *, halves: bool = False) -> Callable[[Library], Any]:
    def make(m: Library) -> Any:
        jax = m.jax

        def loss_of(parameters: Any, x: Any, y: Any) -> Any:
            logits = model(m, parameters, x)
            logits = jax.nn.log_softmax(logits.reshape(-1, logits.shape[-1]).astype(m.float32))
            return -m.take_along_axis(logits, y.reshape(-1, 1), axis=1).mean()

        def update(state: Any, x: Any, y: Any) -> Any:
            parameters, first, second, count = state
            loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
            count = count + 1
            first = [BETAS[0] * f + (1 - BETAS[0]) * g for f, g in zip(first, gradients, strict=True)]
            second = [BETAS[1] * s + (1 - BETAS[1]) * g * g for s, g in zip(second, gradients, strict=True)]
            rate, root = LEARNING_RATE / (1 - BETAS[0] ** count), (1 - BETAS[1] ** count) ** 0.5
            parameters = [
                (p - rate * f / (m.sqrt(s) / root + EPSILON)).astype(p.dtype)
                for p, f, s in zip(parameters, first, second, strict=True)
            ]  # fmt: skip
            return (parameters, first, second, count), loss

        start = [m.asarray(array, m.bfloat16 if halves else m.float32) for array in drawn(shapes)]
        state = [(start, [0 * p for p in start], [0 * p for p in start], m.asarray(0.0, m.float32))]
        run = jax.jit(update, donate_argnums=0)

        def step(x: Any, y: Any) -> Any:
            state[0], loss = run(state[0], x, y)
            return loss

        return step

    return make


def mlp_shapes(width: int = 512) -> Shapes:
    return [(width, 784), (width,), (width, width), (width,), (10, width), (10,)]


def cnn_shapes() -> Shapes:
    return [(32, 3, 3, 3), (32,), (32, 32, 3, 3), (32,), (64, 32, 3, 3), (64,), (10, 4096), (10,)]


def gpt_shapes(layers: int, width: int, words: int = 512, length: int = 128) -> Shapes:
    w = width
    block = [(w,), (w,), (3 * w, w), (3 * w,), (w, w), (w,), (w,), (w,), (4 * w, w), (4 * w,), (w, 4 * w), (w,)]
    return [(words, w), (length, w), *block * layers, (w,), (w,), (words, w)]


def lstm_shapes(inputs: int = 64, hidden: int = 128) -> Shapes:
    return [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,), (10, hidden), (10,)]
