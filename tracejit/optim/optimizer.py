"""Optimizer: parameters in groups, each with its settings, and the state that goes with each parameter.

How a step compiles.  State tensors and parameters are updated in place, so a jitted step finds them by
identity.  Float settings are read at each call (a new learning rate recompiles nothing); whether a setting is
zero, and flags, choose which operations are traced, and are guarded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np

from tracejit.backends.devices import in_use, is_array
from tracejit.ir.types import float64

from ..autograd.modes import enable_grad, no_grad
from ..device import follow
from ..disguise import disguised
from ..guards import Guard, SameValue
from ..impurity import pause, resume
from ..locations import at_user_line
from ..nn.module import zero_gradients
from ..ops import elementwise
from ..ops.creation import from_numpy
from ..places import Item, Itself, Place, Truth
from ..state import thread
from ..tensor import Tensor, _rebuild as untraced_tensor, new_tensor

if TYPE_CHECKING:
    from ..signing import Signing

Group = dict[str, Any]


class Implementation(TypedDict, total=False):
    """How PyTorch is to compute a step: accepted for compatibility, changes nothing."""

    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool  # False


class SameTensors(Guard):
    """An optimizer has the groups, the parameters and the state tensors it was traced with."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer, self._expected = optimizer, optimizer._held()

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        found = self._optimizer._held()
        return len(found) == len(self._expected) and all(map(operator.is_, found, self._expected))

    def describe(self) -> str:
        return f"{type(self._optimizer).__name__} has the same parameters and state tensors"

    def tell(self, signing: Signing) -> None:
        optimizer = self._optimizer
        attributes = Itself(vars(optimizer))
        groups, state = Item(attributes, "param_groups"), Item(attributes, "state")
        signing.holds_items(groups, optimizer.param_groups)
        for group in optimizer.param_groups:
            parameters = Item(Itself(group), "params")
            signing.holds_items(parameters, group["params"])
            for parameter in group["params"]:
                if parameter in optimizer.state:
                    signing.holds_items(Item(state, parameter), [*optimizer.state[parameter].values()])
                else:
                    signing.lacks(state, parameter)


class Optimizer:
    """The base of optimizers; a subclass defines :meth:`_check`, :meth:`_state_names` and :meth:`_update`.

    ``params`` is an iterable of tensors, of ``(name, tensor)`` pairs, or of dicts (groups) with ``"params"`` and
    settings of their own.  ``param_groups`` holds the settings, which may be changed at any time; ``state`` the
    tensors that go with each parameter.
    """

    param_groups: list[Group]
    state: dict[Tensor, dict[str, Tensor]]
    has_stepped: bool = False  # whether step() has run, or been traced: learning rate schedulers ask
    _scalars: ClassVar[frozenset[str]] = frozenset({"step"})  # the state that is one number a parameter
    _takes_complex: ClassVar[bool] = False

    def __init__(self, params: Any, defaults: Group, implementation: Implementation | None = None) -> None:
        self._check_implementation(implementation or {})
        if isinstance(params, Tensor):
            message = "params argument given to the optimizer should be an iterable of Tensors or dicts, but got Tensor"
            raise at_user_line(TypeError(message))
        self.defaults = defaults
        self.param_groups = []
        self.state = {}
        groups = list(params)
        if not groups:
            raise at_user_line(ValueError("optimizer got an empty parameter list"))
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _check_implementation(self, implementation: Mapping[str, Any]) -> None:
        for name, choice in implementation.items():
            if name not in Implementation.__annotations__:
                message = f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}"
                raise at_user_line(TypeError(message))
            if name == "differentiable" and choice:
                message = f"{type(self).__name__}: a step cannot be differentiated (differentiable=True)"
                raise at_user_line(NotImplementedError(message))

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])

    # To be defined by subclasses --------------------------------------------------------------------

    def _check(self, group: Group) -> None:
        """Raise ``ValueError`` for settings that make no sense."""

    def _state_names(self, group: Group) -> tuple[str, ...]:
        """Which tensors go with each parameter: of its shape, or one number (``_scalars``; ``"step"`` counts)."""
        return ()

    def _initial_value(self, name: str, group: Group) -> float:
        """What a state tensor is filled with at first."""
        return 0

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Group) -> None:
        """Update a parameter and its state in place."""
        raise NotImplementedError

    # Parameters -------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with settings of their own; what is missing is taken from the defaults."""
        if thread.trace is not None:
            thread.trace.refuse("it gives an optimizer parameters")
        if not isinstance(param_group, dict):
            raise at_user_line(TypeError(f"param_group must be a dict, but got {type(param_group)}"))
        group = {**self.defaults, **param_group}
        params = group["params"]
        if isinstance(params, set):
            raise at_user_line(
                TypeError(
                    "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
                    "sets will change between runs. Please use a list instead."
                )
            )
        items = [params] if isinstance(params, Tensor) else list(params)
        if items and all(isinstance(item, tuple) for item in items):
            group["param_names"] = [name for name, _ in items]
            items = [tensor for _, tensor in items]
        self._check_parameters(items)
        self._check(group)
        group["params"] = items
        self.param_groups.append(group)
        # All state is made here rather than at the first step: a jitted step then finds the same tensors at every
        # call, and compiles once.
        for parameter in items:
            self._complete_state(parameter, group)

    def _check_parameters(self, items: list[Any]) -> None:
        known = {id(parameter) for parameter in self._parameters()}
        for item in items:
            problem: Exception | None = None
            if not isinstance(item, Tensor):
                kind = type(item).__name__
                problem = TypeError(f"optimizer can only optimize Tensors, but one of the params is {kind}")
            elif not item.is_leaf:
                problem = ValueError("can't optimize a non-leaf Tensor")
            elif item.dtype.kind == "c" and not self._takes_complex:
                problem = NotImplementedError(f"{type(self).__name__} cannot update complex parameters")
            elif id(item) in known:
                problem = ValueError("some parameters appear in more than one parameter group")
            if problem is not None:
                raise at_user_line(problem)
            known.add(id(item))

    def _complete_state(self, parameter: Tensor, group: Group) -> dict[str, Tensor]:
        """The state of a parameter; what is missing (of a setting that was changed later) starts anew.

        The tensors are made outside of any trace: new ones that a trace which fails leaves behind change nothing.
        """
        state = self.state.setdefault(parameter, {})
        for name in self._state_names(group):
            if name not in state:
                shape, dtype = self._state_type(name, parameter)
                start = np.full(shape, self._initial_value(name, group), dtype)
                state[name] = untraced_tensor(Tensor, start, False)
        if in_use[0] and is_array(parameter._value):
            for tensor in state.values():
                follow(tensor, parameter)
        return state

    def _state_type(self, name: str, parameter: Tensor) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return ((), np.dtype(np.float32)) if name in self._scalars else (parameter.shape, parameter.dtype)

    def _parameters(self) -> Iterator[Tensor]:
        return (parameter for group in self.param_groups for parameter in group["params"])

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The state tensors, named as in ``state_dict``: ``state.0.exp_avg``."""
        for number, parameter in enumerate(self._parameters()):
            for name, tensor in self.state.get(parameter, {}).items():
                yield f"state.{number}.{name}", tensor

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        zero_gradients(self._parameters(), set_to_none)

    # A step -----------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        ``closure``, if given, computes the gradients first; its result (the loss) is returned.
        """
        loss = None
        self.has_stepped = True
        if closure is not None:
            with enable_grad():
                loss = closure()
        is_paused = type(self).__module__.startswith("tracejit.") and pause()
        try:
            with no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        gradient = parameter.grad
                        if gradient is not None:
                            self._update(parameter, gradient, self._complete_state(parameter, group), group)
        finally:
            if is_paused:
                resume()
        if thread.trace is not None:
            thread.trace.guard(("optimizer", id(self)), SameTensors(self))
        return loss

    def _held(self) -> tuple[Any, ...]:
        """The objects that a compiled step relies on being the same ones."""
        held: list[Any] = []
        for group in self.param_groups:
            held.append(group)
            for parameter in group["params"]:
                held.append(parameter)
                held += self.state.get(parameter, {}).values()
        return tuple(held)

    def _number(self, group: Group, key: str, index: int | None = None) -> Any:
        """A float setting: the number itself, or in a trace a weak 0-d tensor that is looked up at each call."""

        place: Place = Item(Itself(group), key)
        if index is not None:
            place = Item(place, index)
        trace = thread.trace
        if trace is None:
            return float(place())
        world = getattr(trace, "world", None)
        if world is not None and world.is_changed(group, key):  # by the function that is traced
            return place()
        setting = place()
        if isinstance(setting, Tensor):
            return disguised(elementwise.astype(setting.detach(), float64))
        value = trace.number(group, (key, index), place)
        value.name = key if index is None else f"{key.removesuffix('s')}{index + 1}"  # lr, beta1
        return disguised(new_tensor(value))

    def _with_decay(self, parameter: Tensor, gradient: Tensor, group: Group) -> Tensor:
        """The gradient with the weight decay in it; a decoupled one shrinks the parameter instead."""
        if not self._enabled(group, "weight_decay"):
            return gradient
        decay = self._number(group, "weight_decay")
        if "decoupled_weight_decay" in group and self._enabled(group, "decoupled_weight_decay"):
            parameter.mul_(1 - self._number(group, "lr") * decay)
            return gradient
        return gradient + decay * parameter

    def _enabled(self, group: Group, key: str) -> bool:
        """Whether a setting is on, or not zero; a trace that is told holds only while that stays so."""
        place = Truth(Item(Itself(group), key))
        enabled = place()
        if thread.trace is not None:
            what = f"whether {type(self).__name__}'s {key} is on"
            thread.trace.guard(("enabled", id(group), key), SameValue(what, place, enabled))
        return enabled

    # Saving -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {index: {name: tensor}}, "param_groups": [settings, with the parameters as indices]}``."""
        numbers = {id(parameter): number for number, parameter in enumerate(self._parameters())}
        state = {
            number: {name: tensor.detach() for name, tensor in self.state[parameter].items()}
            for number, parameter in enumerate(self._parameters())
            if self.state.get(parameter)
        }
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the settings and the state of a :meth:`state_dict`, in place: compiled steps go on with them."""
        if thread.trace is not None:
            thread.trace.refuse("it loads the state of an optimizer")
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise at_user_line(ValueError("loaded state dict has a different number of parameter groups"))
        if any(len(own["params"]) != len(new["params"]) for own, new in zip(self.param_groups, groups, strict=True)):
            message = "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            raise at_user_line(ValueError(message))
        numbers = [number for group in groups for number in group["params"]]
        saved = {
            parameter: self._loaded(parameter, state_dict["state"].get(number, {}))
            for parameter, number in zip(self._parameters(), numbers, strict=True)
        }
        for own, new in zip(self.param_groups, groups, strict=True):
            own.update({key: value for key, value in new.items() if key != "params"})
        with no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    for name, tensor in self._complete_state(parameter, group).items():
                        tensor.copy_(saved[parameter].get(name, self._initial_value(name, group)))

    def _loaded(self, parameter: Tensor, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        """The state saved for a parameter as tensors, checked."""
        values: dict[str, Tensor] = {}
        for name, item in saved.items():
            if item is None:
                continue
            value = item if isinstance(item, Tensor) else from_numpy(np.asarray(item))
            expected, _ = self._state_type(name, parameter)
            if value.shape != expected:
                message = f"loaded state dict has {name!r} of shape {value.shape}, expected {expected}"
                raise at_user_line(ValueError(message))
            values[name] = value
        if values and "step" not in values:  # of a library that does not count: not the first step, at any rate
            values["step"] = from_numpy(np.asarray(1.0, np.float32))
        return values


def check_betas(betas: Sequence[float]) -> None:
    """Raise ``ValueError`` for decay rates outside of ``[0, 1)``."""
    for index, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise at_user_line(ValueError(f"Invalid beta parameter at index {index}: {beta}"))


def check_at_least(minimum: float, what: str, value: Any) -> None:
    """Raise ``ValueError`` for a setting that is too small (or NaN)."""
    if not minimum <= value:
        raise at_user_line(ValueError(f"Invalid {what}: {value}"))


__all__ = ["Group", "Implementation", "Optimizer", "check_at_least", "check_betas"]
