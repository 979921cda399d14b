"""Places: where something is looked up afresh at each call, in a form that native code can follow too."""

from __future__ import annotations

import types
from typing import Any

from .state import thread


class Place:
    """A way to an object: called, it gives what stands there now, or raises as a look-up does."""

    __slots__ = ()

    def __call__(self) -> Any:
        raise NotImplementedError

    @property
    def identity(self) -> Any:
        """The same for the same place, as long as what leads there is kept."""
        raise NotImplementedError


class Itself(Place):
    """An object itself."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item = item

    def __call__(self) -> Any:
        return self.item

    @property
    def identity(self) -> Any:
        return Itself, id(self.item)


class Item(Place):
    """What the container at another place holds under a key or at a position."""

    __slots__ = ("key", "of")

    def __init__(self, of: Place, key: Any) -> None:
        self.of, self.key = of, key

    def __call__(self) -> Any:
        return self.of()[self.key]

    @property
    def identity(self) -> Any:
        return Item, self.of.identity, self.key


class Attributes(Place):
    """The dict of the attributes of the object at another place."""

    __slots__ = ("of",)

    def __init__(self, of: Place) -> None:
        self.of = of

    def __call__(self) -> Any:
        return vars(self.of())

    @property
    def identity(self) -> Any:
        return Attributes, self.of.identity


class Attribute(Place):
    """An attribute that the object at another place keeps in a slot."""

    __slots__ = ("name", "of")

    def __init__(self, of: Place, name: str) -> None:
        self.of, self.name = of, name

    def __call__(self) -> Any:
        return getattr(self.of(), self.name)

    @property
    def identity(self) -> Any:
        return Attribute, self.of.identity, self.name


class Content(Place):
    """What a variable of an enclosing function holds."""

    __slots__ = ("cell",)

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def __call__(self) -> Any:
        return self.cell.cell_contents

    @property
    def identity(self) -> Any:
        return Content, id(self.cell)


class Truth(Place):
    """Whether what stands at another place is true, and not zero."""

    __slots__ = ("of",)

    def __init__(self, of: Place) -> None:
        self.of = of

    def __call__(self) -> bool:
        return bool(self.of())

    @property
    def identity(self) -> Any:
        return Truth, self.of.identity


class Given(Place):
    """An argument of the call under way: positional (0) or keyword (1), under a position or a name."""

    __slots__ = ("key", "which")

    def __init__(self, which: int, key: Any) -> None:
        self.which, self.key = which, key

    def __call__(self) -> Any:
        assert thread.arguments is not None
        return thread.arguments[self.which][self.key]

    @property
    def identity(self) -> Any:
        return Given, self.which, self.key
