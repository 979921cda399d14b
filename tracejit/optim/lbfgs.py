"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from ..autograd.modes import enable_grad, no_grad
from ..locations import at_user_line
from ..nn.utils.convert_parameters import vector_to_parameters
from ..ops import creation, elementwise, linalg, manipulation, reduction
from ..state import thread
from ..tensor import Tensor
from .line_search import strong_wolfe
from .optimizer import Group, Optimizer, check_at_least

Closure = Callable[[], Any]


class LBFGS(Optimizer):
    """Limited-memory BFGS (Nocedal, 1980): a quasi-Newton method for whole batches, with one parameter group.

    ``step(closure)`` makes up to ``max_iter`` moves, each along the gradient times an inverse Hessian that the last
    ``history_size`` moves tell of.  It calls ``closure``, which computes the loss and the gradients, up to ``max_eval``
    times (1.25 ``max_iter``), and ends early where no gradient is above ``tolerance_grad``, or neither the loss nor the
    parameters change by more than ``tolerance_change``.  Moves are ``lr`` long, or as ``"strong_wolfe"`` finds.

    A step asks for the values of losses at each turn: in a jitted function it runs eagerly (its closure may be jitted).

    >>> import tracejit as tj
    >>> from tracejit import optim
    >>> p = tj.tensor([-1.0, 2.0], dtype=tj.float64, requires_grad=True)
    >>> opt = optim.LBFGS([p], line_search_fn="strong_wolfe")
    >>> def closure():  # Rosenbrock's function, with the minimum (1, 1)
    ...     opt.zero_grad()
    ...     loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> for step in range(3):
    ...     loss = opt.step(closure)
    >>> bool((abs(p.detach() - 1) < 1e-4).all())
    True
    """

    _numbers: ClassVar[tuple[str, ...]] = ("func_evals", "n_iter")

    def __init__(
        self,
        params: Any,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            message = "LBFGS doesn't support per-parameter options (parameter groups)"
            raise at_user_line(ValueError(message))
        self._memory: dict[str, Any] = {}

    def _check(self, group: Group) -> None:
        check_at_least(0.0, "learning rate", group["lr"])
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise at_user_line(RuntimeError("only 'strong_wolfe' is supported"))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the memory."""
        for name, item in self._memory.items():
            items = item if isinstance(item, list) else [item]
            for number, tensor in enumerate(items):
                if isinstance(tensor, Tensor):
                    yield f"state.0.{name}.{number}" if isinstance(item, list) else f"state.0.{name}", tensor

    def step(self, closure: Closure | None = None) -> Any:
        """Minimize; the loss before is returned."""
        if closure is None:
            raise at_user_line(TypeError("LBFGS.step() missing 1 required positional argument: 'closure'"))
        if thread.trace is not None:
            thread.trace.refuse("LBFGS looks at the value of each loss")
        self.has_stepped = True
        with no_grad():
            return self._minimize(closure)

    def _minimize(self, closure: Closure) -> Any:
        group, memory = self.param_groups[0], self._memory
        memory.setdefault("func_evals", 0)
        memory.setdefault("n_iter", 0)
        first_loss = self._evaluated(closure)
        loss, gradient = float(first_loss), self._gradient()
        evaluations = 1
        if _largest(gradient) <= group["tolerance_grad"]:
            return first_loss
        for turn in range(1, group["max_iter"] + 1):
            memory["n_iter"] += 1
            direction = self._direction(gradient)
            memory["d"], memory["prev_flat_grad"], memory["prev_loss"] = direction, gradient, loss
            before = loss
            rate = float(group["lr"])
            if memory["n_iter"] == 1:
                rate *= min(1.0, 1.0 / float(reduction.sum(elementwise.abs(gradient))))
            slope = float(linalg.vecdot(gradient, direction))
            memory["t"] = rate
            if slope > -group["tolerance_change"]:
                break
            if group["line_search_fn"] is not None:
                most = group["max_eval"] - evaluations
                start = self._vector()
                loss, gradient, rate, count = strong_wolfe(
                    partial(self._at, closure, start, direction),
                    rate, direction, loss, gradient, slope, group["tolerance_change"], most,
                )  # fmt: skip
                self._move(start, rate, direction)
                memory["t"] = rate
                evaluations += count
            else:
                self._move(self._vector(), rate, direction)
                if turn != group["max_iter"]:  # after the last move the loss is of no use
                    loss, gradient = float(self._evaluated(closure)), self._gradient()
                    evaluations += 1
            if (
                evaluations >= group["max_eval"]
                or _largest(gradient) <= group["tolerance_grad"]
                or _largest(direction * rate) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first_loss

    def _direction(self, gradient: Tensor) -> Tensor:
        """Minus the gradient times the approximate inverse Hessian, by the two-loop recursion."""
        memory = self._memory
        if memory["n_iter"] == 1:
            memory.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -gradient
        changes, moves, scales = memory["old_dirs"], memory["old_stps"], memory["ro"]
        change, move = gradient - memory["prev_flat_grad"], memory["d"] * memory["t"]
        curvature = float(linalg.vecdot(change, move))
        if curvature > 1e-10:
            if len(changes) == self.param_groups[0]["history_size"]:
                for items in (changes, moves, scales):
                    items.pop(0)
            changes.append(change)
            moves.append(move)
            scales.append(1.0 / curvature)
            memory["H_diag"] = curvature / float(linalg.vecdot(change, change))
        direction, parts = -gradient, [0.0] * len(changes)
        for i in reversed(range(len(changes))):
            parts[i] = float(linalg.vecdot(moves[i], direction)) * scales[i]
            direction = direction - parts[i] * changes[i]
        direction = direction * memory["H_diag"]
        for i in range(len(changes)):
            direction = direction + (parts[i] - float(linalg.vecdot(changes[i], direction)) * scales[i]) * moves[i]
        return direction

    def _evaluated(self, closure: Closure) -> Any:
        self._memory["func_evals"] += 1
        with enable_grad():
            return closure()

    def _at(self, closure: Closure, start: Tensor, direction: Tensor, rate: float) -> tuple[float, Tensor]:
        """The loss and the gradient ``rate`` along a direction; the parameters stay where they are."""
        self._move(start, rate, direction)
        loss, gradient = float(self._evaluated(closure)), self._gradient()
        vector_to_parameters(start, self._parameters())
        return loss, gradient

    def _move(self, start: Tensor, rate: float, direction: Tensor) -> None:
        vector_to_parameters(start + rate * direction, self._parameters())

    def _vector(self) -> Tensor:
        return manipulation.concat([manipulation.reshape(p, (p.size,)) for p in self._parameters()])

    def _gradient(self) -> Tensor:
        """The gradients of all parameters as one vector, zeros where there are none."""
        parts: list[Tensor] = []
        for parameter in self._parameters():
            gradient = parameter.grad
            found = creation.zeros_like(parameter) if gradient is None else gradient.detach()
            parts.append(manipulation.reshape(found, (parameter.size,)))
        return manipulation.concat(parts)

    def state_dict(self) -> dict[str, Any]:
        """As the base's; all state stands under the first parameter."""
        state = super().state_dict()
        return {**state, "state": {0: _copied(self._memory)} if self._memory else {}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        super().load_state_dict({**state_dict, "state": {}})
        saved = {name: item for name, item in state_dict["state"].get(0, {}).items() if name != "al"}
        count = sum(parameter.size for parameter in self._parameters())
        for name in ("d", "prev_flat_grad"):
            if name in saved and tuple(saved[name].shape) != (count,):
                message = f"loaded state dict has {name!r} of shape {tuple(saved[name].shape)}, expected {(count,)}"
                raise at_user_line(ValueError(message))
        memory = _copied(saved)
        for name in ("t", "H_diag", "prev_loss"):
            if name in memory:
                memory[name] = float(memory[name])
        if "ro" in memory:
            memory["ro"] = [float(item) for item in memory["ro"]]
        dtype = next(iter(self._parameters())).dtype
        for name in ("d", "prev_flat_grad", "old_dirs", "old_stps"):
            if name in memory:
                memory[name] = _as_tensors(memory[name], dtype)
        self._memory = memory


def _largest(x: Tensor) -> float:
    return float(reduction.max(elementwise.abs(x)))


def _copied(memory: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(item) if isinstance(item, list) else item for name, item in memory.items()}


def _as_tensors(item: Any, dtype: Any) -> Any:
    if isinstance(item, list):
        return [_as_tensors(part, dtype) for part in item]
    return creation.asarray(item.detach() if isinstance(item, Tensor) else item, dtype=dtype)


__all__ = ["LBFGS"]
