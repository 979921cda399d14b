"""Recurrent layers: a loop over time in Python, which a jitted function holds unrolled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..device import check
from ..locations import at_user_line
from ..ops import creation, elementwise, manipulation
from ..promotion import as_tensor
from ..tensor import Parameter, Tensor
from . import functional, init
from .module import Module

State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM


def _chunks(x: Tensor, count: int) -> list[Tensor]:
    """The last axis in ``count`` equal parts."""
    extent = x.shape[-1] // count
    return [x[..., i * extent : (i + 1) * extent] for i in range(count)]


class _Recurrence:
    """One step of a layer: from what its input and its hidden state contribute to the gates, and the state before."""

    gates = 1
    state_size = 1  # tensors

    @staticmethod
    def step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        raise NotImplementedError


class _Tanh(_Recurrence):
    @staticmethod
    def step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        return (elementwise.tanh(from_input + from_hidden),)


class _ReLU(_Recurrence):
    @staticmethod
    def step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        return (elementwise.relu(from_input + from_hidden),)


class _LSTM(_Recurrence):
    gates = 4
    state_size = 2

    @staticmethod
    def step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        into, forget, cell, out = _chunks(from_input + from_hidden, 4)
        kept = elementwise.sigmoid(forget) * state[1] + elementwise.sigmoid(into) * elementwise.tanh(cell)
        return elementwise.sigmoid(out) * elementwise.tanh(kept), kept


class _GRU(_Recurrence):
    gates = 3

    @staticmethod
    def step(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        reset, update, new = _chunks(from_input, 3)
        reset_hidden, update_hidden, new_hidden = _chunks(from_hidden, 3)
        candidate = elementwise.tanh(new + elementwise.sigmoid(reset + reset_hidden) * new_hidden)
        kept = elementwise.sigmoid(update + update_hidden)
        return (candidate + kept * (state[0] - candidate),)


def _recurrence(nonlinearity: str) -> type[_Recurrence]:
    if nonlinearity not in ("tanh", "relu"):
        message = f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
        raise at_user_line(ValueError(message))
    return _Tanh if nonlinearity == "tanh" else _ReLU


class _RecurrentModule(Module):
    """What layers and cells share: weights for the input and the hidden state."""

    _recurrence: type[_Recurrence]

    def _add_weights(self, suffix: str, inputs: int, hidden: int, bias: bool, dtype: Any) -> None:
        rows = self._recurrence.gates * hidden
        setattr(self, f"weight_ih{suffix}", Parameter(creation.empty(rows, inputs, dtype=dtype)))
        setattr(self, f"weight_hh{suffix}", Parameter(creation.empty(rows, hidden, dtype=dtype)))
        for name in (f"bias_ih{suffix}", f"bias_hh{suffix}"):
            if bias:
                setattr(self, name, Parameter(creation.empty(rows, dtype=dtype)))
            else:
                self.register_parameter(name, None)

    def _weights(self, suffix: str) -> Iterator[Any]:
        """The input's weight and bias, then the hidden state's."""
        for part in ("ih", "hh"):
            yield getattr(self, f"weight_{part}{suffix}")
            yield getattr(self, f"bias_{part}{suffix}")

    def reset_parameters(self) -> None:
        """Draw the starting values anew: uniform in ``±1 / sqrt(hidden_size)``."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)


class _RecurrentLayer(_RecurrentModule):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        if hidden_size <= 0:
            raise at_user_line(ValueError("hidden_size must be greater than zero"))
        if num_layers <= 0:
            raise at_user_line(ValueError("num_layers must be greater than zero"))
        if not 0 <= dropout <= 1:
            message = (
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
            raise at_user_line(ValueError(message))
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self._suffixes = [
            f"_l{layer}{direction}"
            for layer in range(num_layers)
            for direction in ("", "_reverse")[: 1 + bidirectional]
        ]
        for number, suffix in enumerate(self._suffixes):
            first = number < 1 + bidirectional
            inputs = input_size if first else hidden_size * (1 + bidirectional)
            self._add_weights(suffix, inputs, hidden_size, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Any]:
        """``(T, N, input_size)`` → all hidden states of the last layer, ``(T, N, D hidden_size)``, and the last states.

        ``(N, T, …)`` with ``batch_first``, ``(T, …)`` without a batch.  ``hx`` and the second result have the shape
        ``(num_layers D, N, hidden_size)`` (an LSTM has two of them), where ``D`` is the number of directions.
        """
        x = as_tensor(input, type(self).__name__)
        if x.ndim not in (2, 3):
            message = f"{type(self).__name__}: Expected input to be 2D or 3D, got {x.ndim}D tensor instead"
            raise at_user_line(ValueError(message))
        if x.shape[-1] != self.input_size:
            message = f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            raise at_user_line(RuntimeError(message))
        single = x.ndim == 2
        if single:
            x = manipulation.expand_dims(x, 1)
        elif self.batch_first:
            x = manipulation.transpose(x, 0, 1)
        starts = self._starts(hx, x, single)
        directions = 1 + self.bidirectional
        ends: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = functional.dropout(x, self.dropout)
            outputs: list[Tensor] = []
            for number in range(layer * directions, (layer + 1) * directions):
                output, end = self._run(x, starts[number], self._suffixes[number], number % directions == 1)
                outputs.append(output)
                ends.append(end)
            x = outputs[0] if directions == 1 else manipulation.concat(outputs, -1)
        last = [manipulation.stack(tensors) for tensors in zip(*ends, strict=True)]
        if single:
            x, last = manipulation.squeeze(x, 1), [manipulation.squeeze(state, 1) for state in last]
        elif self.batch_first:
            x = manipulation.transpose(x, 0, 1)
        return x, last[0] if len(last) == 1 else tuple(last)

    def _run(self, x: Tensor, state: State, suffix: str, backwards: bool) -> tuple[Tensor, State]:
        """One direction of one layer over all times."""
        weight, bias, hidden_weight, hidden_bias = self._weights(suffix)
        from_input = functional.linear(x, weight, bias)
        outputs: list[Tensor] = []
        times = range(x.shape[0])
        for time in reversed(times) if backwards else times:
            from_hidden = functional.linear(state[0], hidden_weight, hidden_bias)
            state = self._recurrence.step(from_input[time], from_hidden, state)
            outputs.append(state[0])
        if not outputs:
            raise at_user_line(RuntimeError("Expected sequence length to be larger than 0 in RNN"))
        return manipulation.stack(outputs[::-1] if backwards else outputs), state

    def _starts(self, hx: Any, x: Tensor, single: bool) -> list[State]:
        """The state that each direction of each layer starts with."""
        count, size = len(self._suffixes), self._recurrence.state_size
        shape = (count, x.shape[1], self.hidden_size)
        if hx is None:
            return [(creation.zeros(shape[1:], dtype=x.dtype),) * size] * count
        given = list(hx) if size > 1 else [hx]
        for state in given:
            expected = (shape[0], shape[2]) if single else shape
            if state.shape != expected:
                message = f"Expected hidden size {expected}, got {list(state.shape)}"
                raise at_user_line(RuntimeError(message))
        if single:
            given = [manipulation.expand_dims(state, 1) for state in given]
        return [tuple(state[number] for state in given) for number in range(count)]

    def extra_repr(self) -> str:
        settings = [f"{self.input_size}, {self.hidden_size}"]
        if self.num_layers != 1:
            settings.append(f"num_layers={self.num_layers}")
        names = (("bias", True), ("batch_first", False), ("dropout", 0.0), ("bidirectional", False))
        settings += [f"{name}={getattr(self, name)}" for name, usual in names if getattr(self, name) != usual]
        return ", ".join(settings)


class RNN(_RecurrentLayer):
    """``h = tanh(x @ W_ihᵀ + b_ih + h @ W_hhᵀ + b_hh)`` at each time; ``nonlinearity`` is ``"tanh"`` or ``"relu"``.

    >>> import tracejit as tj
    >>> output, last = RNN(3, 4)(tj.ones(7, 2, 3))
    >>> output.shape, last.shape
    ((7, 2, 4), (1, 2, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", **settings: Any
    ) -> None:
        self._recurrence = _recurrence(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, **settings)


class LSTM(_RecurrentLayer):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997): the state is ``(h, c)``, gates ``i, f, g, o``.

    ``c = sigmoid(f) * c + sigmoid(i) * tanh(g)``, ``h = sigmoid(o) * tanh(c)``.

    >>> import tracejit as tj
    >>> output, (h, c) = LSTM(3, 4, num_layers=2, bidirectional=True)(tj.ones(7, 2, 3))
    >>> output.shape, h.shape, c.shape
    ((7, 2, 8), (4, 2, 4), (4, 2, 4))
    """

    _recurrence = _LSTM


class GRU(_RecurrentLayer):
    """Gated recurrent unit (Cho et al., 2014), gates ``r, z, n``.

    ``n = tanh(n_i + sigmoid(r) * n_h)``, ``h = (1 - sigmoid(z)) * n + sigmoid(z) * h``.

    >>> import tracejit as tj
    >>> output, last = GRU(3, 4, batch_first=True)(tj.ones(2, 7, 3))
    >>> output.shape, last.shape
    ((2, 7, 4), (1, 2, 4))
    """

    _recurrence = _GRU


# Cells: one step ------------------------------------------------------------------------------------


class _Cell(_RecurrentModule):
    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._add_weights("", input_size, hidden_size, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None) -> Any:
        """``(N, input_size)`` or ``(input_size,)``, and the state before → the next state."""
        x = as_tensor(input, type(self).__name__)
        size = self._recurrence.state_size
        if hx is None:
            state: State = (creation.zeros((*x.shape[:-1], self.hidden_size), dtype=x.dtype),) * size
        else:
            state = tuple(hx) if size > 1 else (hx,)
        weight, bias, hidden_weight, hidden_bias = self._weights("")
        from_hidden = functional.linear(state[0], hidden_weight, hidden_bias)
        state = self._recurrence.step(functional.linear(x, weight, bias), from_hidden, state)
        return state if size > 1 else state[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(_Cell):
    """One step of :class:`RNN`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", **settings: Any
    ) -> None:
        self._recurrence = _recurrence(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, **settings)


class LSTMCell(_Cell):
    """One step of :class:`LSTM`.

    >>> import tracejit as tj
    >>> h, c = LSTMCell(3, 4)(tj.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    _recurrence = _LSTM


class GRUCell(_Cell):
    """One step of :class:`GRU`."""

    _recurrence = _GRU


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]
