"""Recurrent layers: a loop over time, Python's or, where a function is traced, one of its program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import control
from ..device import check
from ..locations import at_user_line, warn_at_user_line
from ..ops import creation, elementwise, indexing, manipulation
from ..promotion import as_tensor
from ..state import thread
from ..tensor import Parameter, Tensor
from . import functional, init
from .module import Module
from .utils.rnn import PackedSequence

LEAST_STEPS = 8  # that are a loop where a function is traced

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

    def _add_weights(self, suffix: str, inputs: int, outputs: int, hidden: int, bias: bool, dtype: Any) -> None:
        rows = self._recurrence.gates * hidden
        setattr(self, f"weight_ih{suffix}", Parameter(creation.empty(rows, inputs, dtype=dtype)))
        setattr(self, f"weight_hh{suffix}", Parameter(creation.empty(rows, outputs, dtype=dtype)))
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
        proj_size: int = 0,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        self._check_settings(hidden_size, num_layers, dropout, proj_size)
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        self.proj_size = proj_size
        self._suffixes = [
            f"_l{layer}{direction}"
            for layer in range(num_layers)
            for direction in ("", "_reverse")[: 1 + bidirectional]
        ]
        outputs = proj_size or hidden_size
        for number, suffix in enumerate(self._suffixes):
            inputs = input_size if number < 1 + bidirectional else outputs * (1 + bidirectional)
            self._add_weights(suffix, inputs, outputs, hidden_size, bias, dtype)
            if proj_size:
                projection = creation.empty(proj_size, hidden_size, dtype=dtype)
                setattr(self, f"weight_hr{suffix}", Parameter(projection))
        self.reset_parameters()

    def _check_settings(self, hidden_size: int, num_layers: int, dropout: float, proj_size: int) -> None:
        problem: Exception | None = None
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            message = "dropout should be a number in range [0, 1] representing the probability of an element being "
            problem = ValueError(f"{message}zeroed")
        elif not isinstance(hidden_size, int):
            problem = TypeError(f"hidden_size should be of type int, got: {type(hidden_size).__name__}")
        elif hidden_size <= 0:
            problem = ValueError("hidden_size must be greater than zero")
        elif num_layers <= 0:
            problem = ValueError("num_layers must be greater than zero")
        elif proj_size < 0:
            problem = ValueError("proj_size should be a positive integer or zero to disable projections")
        elif proj_size >= hidden_size:
            problem = ValueError("proj_size has to be smaller than hidden_size")
        elif proj_size and self._recurrence is not _LSTM:
            problem = ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if problem is not None:
            raise at_user_line(problem)
        if dropout > 0 and num_layers == 1:
            warn_at_user_line(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}"
            )

    def flatten_parameters(self) -> None:
        """Accepted for compatibility; there is nothing to do."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each direction of each layer."""
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        names = [[f"{part}{suffix}" for part in parts] for suffix in self._suffixes]
        return [[p for name in row if (p := self._parameters.get(name)) is not None] for row in names]

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """``(T, N, input_size)`` → all hidden states of the last layer, ``(T, N, D H)``, and the last states.

        ``(N, T, …)`` with ``batch_first``, ``(T, …)`` without a batch; a :class:`~.utils.rnn.PackedSequence` gives one.
        ``hx`` and the second result have the shape ``(num_layers D, N, H)`` (an LSTM has two of them), where
        ``D`` is the number of directions and ``H`` the hidden size.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        x = as_tensor(input, type(self).__name__)
        if x.ndim not in (2, 3):
            message = f"{type(self).__name__}: Expected input to be 2D or 3D, got {x.ndim}D instead"
            raise at_user_line(ValueError(message))
        single = x.ndim == 2
        if single:
            x = manipulation.expand_dims(x, 1)
        elif self.batch_first:
            x = manipulation.transpose(x, 0, 1)
        times, count = x.shape[:2]
        if not times:
            raise at_user_line(RuntimeError("Expected sequence length to be larger than 0 in RNN"))
        rows = manipulation.reshape(x, (times * count, x.shape[2]))
        rows, last = self._layers(rows, (count,) * times, self._starts(hx, rows, count, single))
        x = manipulation.reshape(rows, (times, count, rows.shape[1]))
        if single:
            x, last = manipulation.squeeze(x, 1), [manipulation.squeeze(state, 1) for state in last]
        elif self.batch_first:
            x = manipulation.transpose(x, 0, 1)
        return x, last[0] if len(last) == 1 else tuple(last)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        rows, sizes, order, way_back = input
        if rows.ndim != 2:
            raise at_user_line(RuntimeError(f"input must have 2 dimensions, got {rows.ndim}"))
        if hx is not None and order is not None:
            if isinstance(hx, tuple | list):
                hx = tuple(indexing.take(state, order, 1) for state in hx)
            else:
                hx = indexing.take(hx, order, 1)
        rows, last = self._layers(rows, sizes, self._starts(hx, rows, sizes[0], False))
        if way_back is not None:
            last = [indexing.take(state, way_back, 1) for state in last]
        return input._replace(data=rows), last[0] if len(last) == 1 else tuple(last)

    def _layers(self, rows: Tensor, sizes: Sequence[int], starts: list[State]) -> tuple[Tensor, list[Tensor]]:
        """All layers over the rows of all times, ``sizes`` of them at each: the last layer's, and the end states."""
        directions = 1 + self.bidirectional
        is_loop = thread.trace is not None and len(sizes) >= LEAST_STEPS and sizes[0] == sizes[-1]
        ends: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                rows = functional.dropout(rows, self.dropout)
            outputs: list[Tensor] = []
            for number in range(layer * directions, (layer + 1) * directions):
                state, suffix = starts[number], self._suffixes[number]
                if is_loop:
                    output, end = self._run_in_loop(rows, sizes[0], state, suffix, reverse=bool(number % directions))
                elif number % directions:
                    output, end = self._run_backwards(rows, sizes, state, suffix)
                else:
                    output, end = self._run_forwards(rows, sizes, state, suffix)
                outputs.append(output)
                ends.append(end)
            rows = outputs[0] if directions == 1 else manipulation.concat(outputs, -1)
        return rows, [manipulation.stack(tensors) for tensors in zip(*ends, strict=True)]

    def _run_forwards(self, rows: Tensor, sizes: Sequence[int], state: State, suffix: str) -> tuple[Tensor, State]:
        """One direction of one layer; sequences that have ended leave the batch, with their last states."""
        from_input, step = self._stepper(rows, suffix)
        outputs: list[Tensor] = []
        ended: list[State] = []
        first = 0
        for size in sizes:
            if size < state[0].shape[0]:
                ended.append(tuple(tensor[size:] for tensor in state))
                state = tuple(tensor[:size] for tensor in state)
            state = step(from_input[first : first + size], state)
            outputs.append(state[0])
            first += size
        parts = [state, *reversed(ended)]
        end = state if len(parts) == 1 else tuple(manipulation.concat(tensors) for tensors in zip(*parts, strict=True))
        return manipulation.concat(outputs), end

    def _run_backwards(self, rows: Tensor, sizes: Sequence[int], state: State, suffix: str) -> tuple[Tensor, State]:
        """The same from the last time on; sequences join the batch where they end."""
        from_input, step = self._stepper(rows, suffix)
        outputs: list[Tensor] = []
        start, first = state, rows.shape[0]
        state = tuple(tensor[:0] for tensor in start)
        for size in reversed(sizes):
            here = state[0].shape[0]
            if not here:
                state = tuple(tensor[:size] for tensor in start)
            elif size > here:
                joining = [tensor[here:size] for tensor in start]
                state = tuple(manipulation.concat(pair) for pair in zip(state, joining, strict=True))
            first -= size
            state = step(from_input[first : first + size], state)
            outputs.append(state[0])
        return manipulation.concat(outputs[::-1]), state

    def _run_in_loop(
        self, rows: Tensor, count: int, state: State, suffix: str, *, reverse: bool
    ) -> tuple[Tensor, State]:
        """One direction of a layer whose sequences are equally long, as a loop of the program that is traced.

        Gradients are added up as they are without a loop: that of the rows because the first step stands before it,
        those of a state because each step gives the output of the one before.
        """
        from_input, step = self._stepper(rows, suffix)
        start, stop = (rows.shape[0] - count, rows.shape[0]) if reverse else (0, count)
        state = step(from_input[start:stop], state)
        rest = from_input[:start] if reverse else from_input[stop:]
        steps = manipulation.reshape(rest, (-1, count, from_input.shape[1]))
        state, outputs = control.scan(lambda state, x: (step(x, state), state[0]), state, steps, reverse=reverse)
        others, last = manipulation.reshape(outputs, (rest.shape[0], state[0].shape[1])), state[0]
        return manipulation.concat([last, others] if reverse else [others, last]), state

    def _stepper(self, rows: Tensor, suffix: str) -> tuple[Tensor, Callable[[Tensor, State], State]]:
        """What the rows contribute to the gates, and the step from those of a time and the state before."""
        weight, bias, hidden_weight, hidden_bias = self._weights(suffix)
        projection = getattr(self, f"weight_hr{suffix}") if self.proj_size else None

        def step(from_input: Tensor, state: State) -> State:
            from_hidden = functional.linear(state[0], hidden_weight, hidden_bias)
            state = self._recurrence.step(from_input, from_hidden, state)
            return state if projection is None else (functional.linear(state[0], projection), *state[1:])

        return functional.linear(rows, weight, bias), step

    def _starts(self, hx: Any, rows: Tensor, count: int, single: bool) -> list[State]:
        """The state that each direction of each layer starts with."""
        if rows.shape[1] != self.input_size:
            message = f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {rows.shape[1]}"
            raise at_user_line(RuntimeError(message))
        directions = len(self._suffixes)
        extents = (self.proj_size or self.hidden_size, self.hidden_size)[: self._recurrence.state_size]
        if hx is None:
            zeros = tuple(creation.zeros((count, extent), dtype=rows.dtype) for extent in extents)
            return [zeros] * directions
        given = list(hx) if len(extents) > 1 else [hx]
        for number, (state, extent) in enumerate(zip(given, extents, strict=True)):
            expected = (directions, extent) if single else (directions, count, extent)
            if state.shape != expected:
                which = f"hidden[{number}]" if len(extents) > 1 else "hidden"
                raise at_user_line(RuntimeError(f"Expected {which} size {expected}, got {list(state.shape)}"))
        if single:
            given = [manipulation.expand_dims(state, 1) for state in given]
        return [tuple(state[number] for state in given) for number in range(directions)]

    def extra_repr(self) -> str:
        settings = [f"{self.input_size}, {self.hidden_size}"]
        usual = (
            ("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
            ("bidirectional", False),
        )  # fmt: skip
        settings += [f"{name}={getattr(self, name)}" for name, value in usual if getattr(self, name) != value]
        return ", ".join(settings)


class RNN(_RecurrentLayer):
    """``h = tanh(x @ W_ihᵀ + b_ih + h @ W_hhᵀ + b_hh)`` at each time; ``nonlinearity`` is ``"tanh"`` or ``"relu"``.

    >>> import tracejit as tj
    >>> output, last = RNN(3, 4)(tj.ones(7, 2, 3))
    >>> output.shape, last.shape
    ((7, 2, 4), (1, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self._recurrence = _recurrence(nonlinearity)
        self.nonlinearity = nonlinearity
        settings = (bias, batch_first, dropout, bidirectional, proj_size, device, dtype)
        super().__init__(input_size, hidden_size, num_layers, *settings)


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
        self._add_weights("", input_size, hidden_size, hidden_size, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None) -> Any:
        """``(N, input_size)`` or ``(input_size,)``, and the state before → the next state."""
        name, size = type(self).__name__, self._recurrence.state_size
        x = as_tensor(input, name)
        if x.ndim not in (1, 2):
            raise at_user_line(ValueError(f"{name}: Expected input to be 1D or 2D, got {x.ndim}D instead"))
        if x.shape[-1] != self.input_size:
            message = f"input has inconsistent input_size: got {x.shape[-1]} expected {self.input_size}"
            raise at_user_line(RuntimeError(message))
        shape = (*x.shape[:-1], self.hidden_size)
        if hx is None:
            state: State = (creation.zeros(shape, dtype=x.dtype),) * size
        else:
            state = tuple(hx) if size > 1 else (hx,)
        for hidden in state:
            if hidden.shape != shape:
                message = f"{name}: expected a hidden state of shape {shape}, got {hidden.shape}"
                raise at_user_line(RuntimeError(message))
        weight, bias, hidden_weight, hidden_bias = self._weights("")
        from_hidden = functional.linear(state[0], hidden_weight, hidden_bias)
        state = self._recurrence.step(functional.linear(x, weight, bias), from_hidden, state)
        return state if size > 1 else state[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(_Cell):
    """One step of :class:`RNN`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self._recurrence = _recurrence(nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


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
