"""State dicts: what a module is saved as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..autograd.modes import no_grad
from ..locations import at_user_line
from ..ops.creation import from_numpy
from ..tensor import Tensor


class IncompatibleKeys(NamedTuple):
    """Names that a module has and a state dict lacks, and the reverse."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Saved:
    """Mixed into :class:`~tracejit.nn.Module`: saving and loading."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _transient_buffers: set[str]

    def _saved_state(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in chain(self._parameters.items(), self._buffers.items()):
            if tensor is not None and name not in self._transient_buffers:
                yield prefix + name, tensor
        for name, module in self._modules.items():
            if module is not None:
                yield from module._saved_state(f"{prefix}{name}.")

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Name → value of every parameter and persistent buffer, as it is now: later training does not change it.

        With ``keep_vars`` the tensors themselves.  ``destination`` is a dict to add to.

        >>> from tracejit import nn
        >>> list(nn.Linear(2, 3).state_dict())
        ['weight', 'bias']
        """
        found = {} if destination is None else destination
        found.update((name, tensor if keep_vars else tensor.detach()) for name, tensor in self._saved_state(prefix))
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into the parameters and buffers of those names, in place: optimizers stay valid.

        Raises one ``RuntimeError`` that lists everything that does not fit, before anything is copied; with
        ``strict=False`` names that are missing or unexpected are returned instead.
        """
        if not isinstance(state_dict, Mapping):
            raise at_user_line(TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}."))
        own = dict(self._saved_state(""))
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        values = {
            name: value if isinstance(value, Tensor) else from_numpy(np.asarray(value))
            for name, value in state_dict.items()
            if name in own
        }
        problems: list[str] = []
        if strict and missing:
            problems.append(f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if strict and unexpected:
            problems.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
        problems += [
            f"size mismatch for {name}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {own[name].shape}."
            for name, value in values.items()
            if value.shape != own[name].shape
        ]
        if problems:
            listed = "".join(f"\n\t{problem}" for problem in problems)
            raise at_user_line(RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:{listed}"))
        with no_grad():
            for name, value in values.items():
                own[name].copy_(value)
        return IncompatibleKeys(missing, unexpected)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


__all__ = ["IncompatibleKeys", "Saved"]
