"""Calling a module with other parameters than its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...locations import at_user_line
from ...tensor import Tensor
from ..module import Module


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Tensor],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with other tensors, by their dotted names, in place of its own.

    Buffers that the module updates are updated in these.  With ``tie_weights`` a parameter that stands under several
    names is replaced under all of them; with ``strict`` all names must be given.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> functional_call(layer, {"weight": tj.tensor([[1.0, 2.0]])}, tj.tensor([10.0, 1.0]))
    tensor([12.])
    """
    arguments = args if isinstance(args, tuple) else (args,)
    with _replaced(module, parameters_and_buffers, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


@contextmanager
def _replaced(module: Module, values: Mapping[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    places: dict[str, tuple[dict[str, Any], str, Tensor]] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        registries: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        for registry in registries:
            for name, tensor in registry.items():
                if tensor is not None:
                    places[f"{prefix}.{name}" if prefix else name] = registry, name, tensor
    unknown, missing = [name for name in values if name not in places], [name for name in places if name not in values]
    if unknown:
        raise at_user_line(RuntimeError(f"Unexpected key(s): {', '.join(unknown)}."))
    if strict and missing:
        raise at_user_line(RuntimeError(f"Missing key(s): {', '.join(missing)}."))
    tied = {id(places[name][2]): value for name, value in values.items()} if tie_weights else {}
    changed: list[tuple[dict[str, Any], str, Tensor]] = []
    try:
        for name, (registry, key, tensor) in places.items():
            value = values.get(name, tied.get(id(tensor)))
            if value is not None:
                changed.append((registry, key, tensor))
                registry[key] = value
        yield
    finally:
        for registry, key, tensor in changed:
            registry[key] = tensor


__all__ = ["functional_call"]
