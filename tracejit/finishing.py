"""What native code makes of a program's results: what is returned, and what is changed (see :mod:`.signing`)."""

from __future__ import annotations

import types
from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tracejit.backends.cpu import signatures
from tracejit.backends.cpu.objects import slot_offset
from tracejit.backends.cpu.signatures import Do
from tracejit.ir import Constant, Value
from tracejit.ir.facts import names
from tracejit.ir.types import TensorType, float32

from . import tree
from .compiled import Backward, CompiledCall, Effect, Ending, Output, Store
from .looking import Looking, Unsigned, offset
from .places import Attributes, Item
from .sources import Source
from .tape import CallNode, CallOutput, Node, node_numbers

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall

_CHANGED = {"item": dict, "append": list, "list": list, "cell": types.CellType}  # by the kind of a change


class Finishing(Looking):
    """The part of a signature that is about a path's end."""

    def __init__(self, call: ArgumentsOfCall) -> None:
        super().__init__(call)
        self._arrays = self._most_arrays = 0
        self._floats: set[int] = set()  # arrays for which there is only a float so far
        self._counters: list[tuple[Ending, array[int]]] = []
        self._changes = self._runs_others = False

    # Arrays -----------------------------------------------------------------------------------------

    def _new_arrays(self, count: int) -> int:
        self._arrays += count
        self._most_arrays = max(self._most_arrays, self._arrays)
        return self._arrays - count

    def _array(self, value: Value, numbers: dict[Value, int]) -> int:
        """The number of a value's array, which is there from here on."""
        if value not in numbers:
            if not isinstance(value, Constant):
                raise Unsigned("of what it computes")
            numbers[value] = self._new_arrays(1)
            self._do(Do.CONSTANT_ARRAY, numbers[value], self._hold(value.array))
        number = numbers[value]
        if number in self._floats:
            self._floats.remove(number)
            self._do(Do.NUMBER_ARRAY, number)
        return number

    def _array_register(self, number: int) -> int:
        register = self._new_owned()
        self._do(Do.ARRAY, register, number)
        return register

    # The end ----------------------------------------------------------------------------------------

    def _keep(self, registers: Mapping[Any, int]) -> dict[Any, int]:
        """Registers that own what these hold now: for code of others may run from here on."""
        kept: dict[Any, int] = {}
        for key, register in registers.items():
            kept[key] = self._new_owned()
            self._do(Do.KEEP, kept[key], register)
        return kept

    def _finish(self, ending: Ending, numbers: dict[Value, int], kept: Mapping[Any, int]) -> None:
        """Make what is returned, and change what is changed."""
        self._changes |= ending.changes_something
        self._runs_others |= bool(ending.stores)
        arrays = [self._array(value, numbers) for value in ending.values]
        node = None if ending.backward is None else self._call_node(ending, ending.backward, arrays, numbers, kept)
        made: dict[int, int] = {}
        stored = [output for store in ending.stores for output in store.outputs]
        for output in (*ending.outputs, *stored):
            if id(output) not in made:
                value = ending.values[output.result] if output.result >= 0 else None
                made[id(output)] = self._made(output, value, arrays, kept, node)
        updates = []
        for effect in ending.effects:
            update = self._new_owned()
            if effect.replacement is not None:
                self._do(Do.KEEP, update, kept[effect.replacement.key])
            elif effect.result is None:
                self._do(Do.TAKE, update, id(None))
            elif effect.attribute == "_value":
                self._do(Do.ARRAY, update, arrays[effect.result])
            else:
                self._do(Do.NEW, update, arrays[effect.result])
            updates.append((Do.PUT, kept[effect.source.key], offset(effect.attribute), update))
        returned = [made[id(output)] for output in ending.outputs]
        is_plain = _is_plain(ending.structure)
        root = self._structure(ending.structure, iter(returned)) if is_plain else self._sequence(Do.NEW_LIST, returned)
        leaves = -1
        stores = self._stores(ending.stores, kept, made)
        if ending.stores and not stores:  # by Python
            leaves = self._sequence(Do.NEW_LIST, [made[id(output)] for output in stored])
        self._rows += [*updates, *stores]
        if ending.stores and not stores:
            self._do(Do.COMMIT, self._hold(ending.commit), leaves)
        if not is_plain:
            given, root = root, self._new_owned()
            self._do(Do.CALL, root, self._hold(partial(_unflattened, ending.structure)), given)
        counter = array("q", [0])
        self._held.append(counter)
        self._counters.append((ending, counter))
        self._do(Do.RETURN, root, counter.buffer_info()[0])

    # What is changed --------------------------------------------------------------------------------

    def _containers(self, stores: Sequence[Store]) -> dict[Any, int]:
        """The registers of the containers that stores change; none where Python is to make the changes."""
        changed = {(id(store.change.find()), store.change.key) for store in stores if store.change.kind == "item"}
        lists = {id(store.change.find()) for store in stores if store.change.kind in ("append", "list")}
        found: dict[Any, int] = {}
        for number, store in enumerate(stores):
            change = store.change
            kind = _CHANGED.get(change.kind)
            if type(change.find()) is not kind or (change.module is not None and change.key != "training"):
                return {}
            place = change.find
            while isinstance(place, Item | Attributes):  # what another store changes is not on the way
                if isinstance(place, Item):
                    of = id(place.of())
                    if of in lists or (of, place.key) in changed:
                        return {}
                place = place.of
            try:
                found[Store, number] = self._at(change.find)
            except Unsigned:
                return {}
            self._do(Do.TYPE_IS, found[Store, number], self._hold(kind))
        return found

    def _stores(
        self, stores: Sequence[Store], kept: Mapping[Any, int], made: Mapping[int, int]
    ) -> list[tuple[int, ...]]:
        """The instructions that change containers, once what they are to hold is there."""
        rows: list[tuple[int, ...]] = []
        for number, store in enumerate(stores):
            if (Store, number) not in kept:
                return []
            container, change = kept[Store, number], store.change
            item = self._structure(store.structure, iter([made[id(output)] for output in store.outputs]))
            match change.kind:
                case "item":
                    rows.append((Do.SET_ITEM, container, self._hold(change.key), item))
                case "cell":
                    rows.append((Do.SET_CELL, container, item))
                case kind:
                    rows.append((Do.EXTEND, container, item, int(kind == "append")))
        return rows

    # What is returned -------------------------------------------------------------------------------

    def _made(
        self, output: Output, value: Value | None, arrays: Sequence[int], kept: Mapping[Any, int], node: int | None
    ) -> int:
        """The register of one leaf of what is returned, or of what is put into containers."""
        register = self._new_owned()
        if output.kind == "tensor" and value is not None:
            self._do(Do.NEW, register, arrays[output.result])
            type = TensorType(value.dtype, value.shape)
            if output.spent:
                self._do(Do.ATTACH, register, self._object(Node, edges=(), type=type))
            elif output.differentiable is not None and node is not None:
                edges = self._sequence(Do.NEW_TUPLE, [node])
                own = self._object(
                    CallOutput, {"edges": edges, "call_node": node}, type=type, index=output.differentiable
                )
                self._do(Do.ATTACH, register, own)
        elif output.kind == "number" and value is not None and value.dtype in signatures.NUMBERS:
            self._do(Do.NUMBER, register, arrays[output.result], signatures.NUMBERS[value.dtype])
        elif output.kind == "existing" and output.source is not None:
            self._do(Do.KEEP, register, kept[output.source.key])
        elif output.kind == "static":
            self._do(Do.TAKE, register, self._hold(output.static))
        else:
            raise Unsigned("of what it returns")
        return register

    def _call_node(
        self,
        ending: Ending,
        backward: Backward,
        arrays: Sequence[int],
        numbers: dict[Value, int],
        kept: Mapping[Any, int],
    ) -> int:
        """The node of a call whose outputs need gradients."""
        inputs = [self._array(value, numbers) for value in ending.parameters]
        given, residuals = (
            self._sequence(Do.NEW_LIST, [self._array_register(number) for number in chosen])
            for chosen in (inputs, [arrays[position] for position in backward.residuals])
        )
        call = self._object(
            CompiledCall, {"_inputs": given, "_residuals": residuals}, _backward=backward, _spent=frozenset()
        )
        edges = []
        for source in backward.leaves:
            edges.append(self._new_owned())
            self._do(Do.EDGE, edges[-1], kept[source.key])
        node = {"edges": self._sequence(Do.NEW_TUPLE, edges), "call": call}
        return self._object(CallNode, node, type=TensorType(float32, ()), _name=CompiledCall.name)

    def _object(self, cls: type, registers: Mapping[str, int] | None = None, **items: Any) -> int:
        """The register of a new object: its slots hold what registers do, these items, or ``None``."""
        table: list[int] = []
        for base in cls.__mro__:
            for slot in _slots(base):
                register, item = (registers or {}).get(slot, signatures.ITSELF), items.get(slot)
                if base is Node and slot == "number":
                    register, item = signatures.NEXT, node_numbers
                table += [slot_offset(base, slot), register, self._hold(item)]
        register = self._new_owned()
        self._do(Do.OBJECT, register, self._hold(cls), self._table(table), len(table) // 3)
        return register

    def _structure(self, structure: tree.Structure, leaves: Any) -> int:
        """The register of a container of leaves."""
        if structure is None:
            leaf: int = next(leaves)
            return leaf
        kind, keys, children = structure
        items = [self._structure(child, leaves) for child in children]
        if kind is dict:
            register = self._new_owned()
            pairs = [word for key, item in zip(keys, items, strict=True) for word in (self._hold(key), item)]
            self._do(Do.NEW_DICT, register, self._table(pairs), len(items))
            return register
        if kind in (tuple, list):
            return self._sequence(Do.NEW_TUPLE if kind is tuple else Do.NEW_LIST, items)
        raise Unsigned(f"it returns a {kind.__name__}")

    def _sequence(self, do: Do, items: Sequence[int]) -> int:
        register = self._new_owned()
        self._do(do, register, self._table(items), len(items))
        return register


def sources_of(ending: Ending) -> list[Source]:
    """What an end reads again when the program has run."""
    found = [effect.source for effect in ending.effects]
    found += [effect.replacement for effect in ending.effects if effect.replacement is not None]
    stored = (output for store in ending.stores for output in store.outputs)
    found += [output.source for output in (*ending.outputs, *stored) if output.source is not None]
    return found if ending.backward is None else found + ending.backward.leaves


def _is_plain(structure: tree.Structure) -> bool:
    """Whether native code makes such containers."""
    return structure is None or (structure[0] in (tuple, list, dict) and all(map(_is_plain, structure[2])))


def _unflattened(structure: tree.Structure, leaves: list[Any]) -> Any:
    return tree.unflatten(structure, iter(leaves))


def _slots(cls: type) -> list[str]:
    """What its instances have besides those of its bases, but for what starts out empty."""
    return [slot for slot in cls.__dict__.get("__slots__", ()) if slot not in ("__dict__", "__weakref__")]


# What ends of paths consist of: with anything more, they would have to be signed in another way.
IS_COMPLETE = (
    set(names(Ending)) == {
        "values", "outputs", "structure", "effects", "stores", "backward", "parameters", "labels", "places",
        "calls", "signed",
    }
    and set(names(Effect)) == {"source", "attribute", "result", "replacement"}
    and set(names(Output)) == {"kind", "result", "source", "static", "spent", "differentiable"}
    and set(names(Store)) == {"change", "structure", "outputs"}
    and CompiledCall.__slots__ == ("_backward", "_inputs", "_residuals", "_spent")
    and (_slots(CallNode), _slots(CallOutput)) == (["_name", "call"], ["call_node", "index"])
)  # fmt: skip
