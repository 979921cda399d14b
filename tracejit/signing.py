"""From a compiled path to a signature: what native code does in place of :func:`tracejit.compiled.run`.

A call that is about to be made in Python has found its path, so everything that the path relies on holds at this
moment.  The signature says how native code sees at a later call that it still does, where the inputs are, and what
becomes of the results; what has no such form is :class:`~.looking.Unsigned`, and stays in Python.  Where the path
parts, the ways that calls have gone are signed too, as far as what they rely on holds now.
"""

from __future__ import annotations

import dataclasses
import types
from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.backends.cpu import signatures
from tracejit.backends.cpu.objects import slot_offset
from tracejit.backends.cpu.signatures import Do, Signature
from tracejit.ir import Constant, Value
from tracejit.ir.masks import settings as masks
from tracejit.ir.primitives.effect import callback
from tracejit.ir.types import TensorType, float32

from . import tree
from .compiled import RUNS_BEFORE_COMPILING, Backward, CompiledCall, Effect, Ending, Output, Store
from .config import config
from .looking import BY_VALUE, SINGLE, Looking, Unsigned, offset
from .paths import Segment, choose
from .places import Attributes, Item
from .sources import Argument, FloatArgument, Source
from .state import changes, thread
from .tape import CallNode, CallOutput, Node, node_numbers
from .tensor import Tensor

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall

MOST_BYTES = 64  # of a value that decides
_CHANGED = {"item": dict, "append": list, "list": list, "cell": types.CellType}  # by the kind of a change


def sign(call: ArgumentsOfCall, root: Segment) -> Signature:
    """The signature of a call that took a path from this root."""
    thread.arguments = call.args, call.kwargs
    try:
        return Signing(call).run(root)
    finally:
        thread.arguments = None


class Signing(Looking):
    """A signature under construction."""

    def __init__(self, call: ArgumentsOfCall) -> None:
        super().__init__(call)
        self._arrays = self._most_arrays = 0
        self._floats: set[int] = set()  # arrays for which there is only a float so far
        self._counters: list[tuple[Ending, array[int]]] = []
        self._changes = self._runs_others = False

    def run(self, root: Segment) -> Signature:
        _, _, _, records, _ = self._call.key
        if not _IS_COMPLETE:
            raise Unsigned("what paths do has changed")
        if self._call.iterators:
            raise Unsigned("of its arguments")
        for guard in root.guards:
            guard.tell(self)
        leaves = self._take_apart()
        if self._asked:
            tensors = self._table(register for _, item, register in leaves if isinstance(item, Tensor))
            for ask in self._asked:
                self._do(Do.HOLDS, self._hold(ask), tensors, len(self._call.tensors))
            leaves = self._take_apart()  # for the code that was asked may have changed what the arguments hold
        code = root.code
        assert code is not None
        self._look_at(leaves, {s.key: number for number, s in enumerate(code.sources) if s is not None})
        self._slot_unchanged(config, "disable_jit")
        self._slot_unchanged(masks, "masked")
        self._tell_conditions()
        self._segment(root, {})
        for ending, counter in self._counters:
            ending.signed.append(counter)
        words = {
            signatures.POSITIONALS: len(self._call.args),
            signatures.KEYWORDS: len(self._call.kwargs),
            signatures.REGISTERS: self._registers,
            signatures.OWNED: self._table(self._owned.all),
            signatures.OWNED_COUNT: len(self._owned.all),
            signatures.ARRAYS: self._most_arrays,
            signatures.RECORDS: id(records),
            signatures.LOCKS: signatures.LEAVES_ALONE
            if not self._changes and (root.ending is not None or not self._runs_others)
            else signatures.CHANGES_UNLOCKED
            if self._runs_others
            else signatures.CHANGES,
        }
        counters = [counter for _, counter in self._counters]
        return Signature(self._call.key, words, self._rows, self._held, counters)

    def _tell_conditions(self) -> None:
        for condition in self._conditions:
            condition()
        self._conditions.clear()

    # Arguments --------------------------------------------------------------------------------------

    def _take_apart(self) -> list[tuple[int, Any, int]]:
        """The leaves of the arguments, in their order, each with its number and its register."""
        leaves: list[tuple[int, Any, int]] = []
        for position, item in enumerate(self._call.args):
            register = self._new()
            self._do(Do.ARGUMENT, register, position)
            self._unpack(item, register, leaves)
        if self._call.kwargs:
            keywords, position = self._new(), self._new()
            self._do(Do.KEYWORDS, keywords)
            for name, item in self._call.kwargs.items():
                register = self._new()
                if self._call.ordered:
                    self._do(Do.NEXT_ITEM, register, keywords, self._hold(name), position)
                else:
                    self._do(Do.ITEM, register, keywords, self._hold(name))
                self._unpack(item, register, leaves)
        return leaves

    def _unpack(self, item: Any, register: int, leaves: list[tuple[int, Any, int]]) -> None:
        kind = type(item)
        if tree.is_registered(kind):
            raise Unsigned(f"an argument is a {kind.__name__}")
        if kind in (tuple, list) or (isinstance(item, tuple) and hasattr(kind, "_fields")):
            self._do(Do.SIZED, register, len(item), self._hold(kind))
            for position, child in enumerate(item):
                of_child = self._new()
                self._do(Do.LIST_ITEM if kind is list else Do.TUPLE_ITEM, of_child, register, position)
                self._unpack(child, of_child, leaves)
        elif kind is dict:
            self._do(Do.DICT, register, len(item))
            position = self._new()
            for key, child in item.items():
                of_child = self._new()
                self._do(Do.NEXT_ITEM, of_child, register, self._hold(key), position)
                self._unpack(child, of_child, leaves)
        elif tree.flatten(item, []) is None:
            leaves.append((len(leaves), item, register))
        elif dataclasses.is_dataclass(item) and _has_plain_fields(item):
            self._do(Do.TYPE_IS, register, self._hold(kind))
            attributes = self._new()
            self._do(Do.ATTRIBUTES, attributes, register)
            for field in dataclasses.fields(item):
                of_child = self._new()
                self._do(Do.ITEM, of_child, attributes, self._hold(field.name))
                self._unpack(getattr(item, field.name), of_child, leaves)
        else:
            raise Unsigned(f"an argument is a {kind.__name__}")

    def _look_at(self, leaves: Sequence[tuple[int, Any, int]], inputs: Mapping[Any, int]) -> None:
        """What the key says of the arguments; the inputs among them are read."""
        tensors = floats = 0
        first: dict[int, int] = {}  # the registers of different tensors
        arrays: list[tuple[np.ndarray, int, int]] = []  # with their registers, and their numbers among the tensors
        for number, item, register in leaves:
            kind = type(item)
            if isinstance(item, Tensor):
                self._known[Argument, tensors] = register
                if id(item) in first:
                    self._do(Do.SAME, register, first[id(item)])
                else:
                    first[id(item)] = register
                self._do(Do.TENSOR, register, *self._about(item), inputs.get((Argument, tensors), -1))
                tensors += 1
            elif kind is np.ndarray:
                arrays.append((item, register, tensors))
                tensors += 1
            elif kind is float and number not in self._call._static:
                self._known[FloatArgument, floats] = register
                array_number = inputs.get((FloatArgument, floats))
                if array_number is None:
                    self._do(Do.IS_FLOAT, register)
                else:
                    self._do(Do.FLOAT, register, 0, 0, array_number)
                floats += 1
            elif kind in SINGLE:
                self._do(Do.IS, register, self._hold(item))
            elif kind in (*BY_VALUE, float):
                self._do(Do.EQUALS, register, self._hold(item))
            elif any(item is other for other in self._call.named_by_identity):
                self._do(Do.IS, register, self._hold(item))
            else:
                raise Unsigned(f"an argument is a {kind.__name__}")
        for item, register, number in arrays:
            self._copy(item, register, number, inputs.get((Argument, number)))
        if len(first) > 1:
            self._do(Do.DISTINCT, self._table(first.values()), len(first))

    def _copy(self, item: np.ndarray, register: int, number: int, array_number: int | None) -> None:
        """An argument that is an array, as a tensor of its own."""
        if array_number is None or self._asked:
            raise Unsigned("an array is more than the program's input")
        if not (item.flags.c_contiguous and item.flags.aligned and item.dtype.isnative):
            raise Unsigned("an array lies in another way")
        about = self._table([item.nbytes, 0, item.ndim, *item.shape])
        self._do(Do.COPY, register, self._hold(item.dtype), about, array_number)
        self._known[Argument, number] = self._new_owned()
        self._do(Do.NEW, self._known[Argument, number], array_number)

    # Segments ---------------------------------------------------------------------------------------

    def _segment(self, segment: Segment, numbers: dict[Value, int]) -> None:
        """Run a segment's program, and go on; ``numbers`` are those of the arrays that are known."""
        code = segment.code
        if code is None or code.anomaly or code.device is not None:
            raise Unsigned("of what it does")
        if code.compiles_late and code.runs < RUNS_BEFORE_COMPILING:
            raise Unsigned("it is not worth it yet")
        executable = code.executable
        entry = executable.entry()
        if entry is None and (
            not executable.recipe.calls_python or any(op.primitive is callback for op in code.traced.walk())
        ):
            raise Unsigned("of its program")
        numbers = dict(numbers)
        first = self._new_arrays(len(code.inputs) + len(code.results) if entry is None else entry.arrays)
        for number, (value, source) in enumerate(zip(code.inputs, code.sources, strict=True), first):
            known = numbers.get(value)
            if known is not None and known not in self._floats:
                self._do(Do.PASS, known, 0, 0, number)
                continue
            if segment.after is not None or not isinstance(source, Argument | FloatArgument):
                self._read(number, source)
            numbers[value] = number
            if not isinstance(source, Source):
                self._floats.add(number)
        if segment.ending is not None:
            registers = {source.key: self._of(source) for source in _sources(segment.ending)}
            kept = self._keep(registers | self._containers(segment.ending.stores))
        else:
            arguments = {key: at for key, at in self._known.items() if key[0] in (Argument, FloatArgument)}
            self._known = kept = arguments if segment.after is not None else self._keep(arguments)
        if entry is None:
            for value in code.inputs:
                self._array(value, numbers)
            count, results = len(code.inputs), first + len(code.inputs)
            self._do(Do.RUN_PYTHON, self._hold(executable), self._table([count, first, len(code.results), results]))
            self._runs_others = True
            numbers = {**dict(zip(code.results, range(results, self._arrays), strict=True)), **numbers}
        else:
            self._held.append(entry)
            self._do(Do.RUN, entry.address, first)
            self._runs_others |= entry.lets_go
            for value, result in zip(code.results, executable.results, strict=True):
                if result in entry.constants:
                    self._do(Do.CONSTANT_ARRAY, first + result, self._hold(entry.constants[result]))
                numbers.setdefault(value, first + result)
        for check in segment.checks:
            self._do(Do.TRUE, self._array(check.predicate, numbers))
        if segment.ending is not None:
            self._finish(segment.ending, numbers, kept)
        else:
            self._decide(segment, numbers)

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

    def _decide(self, segment: Segment, numbers: dict[Value, int]) -> None:
        """Go on as the value says that is known now."""
        decision = segment.decision
        assert decision is not None
        nbytes = decision.value.type.nbytes
        if nbytes > MOST_BYTES:
            raise Unsigned("of the value that decides")
        deciding, row = self._array(decision.value, numbers), len(self._rows)
        self._rows.append(())
        table: list[int] = []
        before = dict(self._known), self._borrowed.used, self._owned.used, self._arrays, set(self._floats)
        for outcome, alternatives in list(segment.children.items()):
            start, counted = len(self._rows), len(self._counters)
            try:
                child = choose(alternatives, self._call.tensors)
                if child is None:
                    continue
                self._slot_unchanged(changes, "types")
                for guard in child.guards:
                    guard.tell(self)
                if self._asked:
                    raise Unsigned("Python is to be asked in its midst")
                self._tell_conditions()
                self._segment(child, numbers)
            except Exception:  # something that it reads is not there now, or has no form
                del self._rows[start:], self._counters[counted:]
            else:
                expected = array("B", outcome)
                table += [self._hold(expected) and expected.buffer_info()[0], start]
            self._asked.clear()
            self._conditions.clear()
            self._return_to(before)
        if not table:
            raise Unsigned("no way on from a decision")
        self._rows[row] = Do.DECIDE, deciding, nbytes, self._table(table), len(table) // 2

    def _return_to(self, state: tuple[dict[Any, int], int, int, int, set[int]]) -> None:
        """Write another way on from where a path parts."""
        known, self._borrowed.used, self._owned.used, self._arrays, floats = state
        self._known, self._floats = dict(known), set(floats)

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
        call = self._object(CompiledCall, {"_inputs": given, "_residuals": residuals}, _backward=backward)
        edges = []
        for source in backward.leaves:
            edges.append(self._new_owned())
            self._do(Do.EDGE, edges[-1], kept[source.key])
        node = {"edges": self._sequence(Do.NEW_TUPLE, edges), "call": call}
        return self._object(CallNode, node, type=TensorType(float32, ()), _name=CompiledCall.name)

    def _array_register(self, number: int) -> int:
        register = self._new_owned()
        self._do(Do.ARRAY, register, number)
        return register

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


def _sources(ending: Ending) -> list[Source]:
    """What an end reads again when the program has run."""
    found = [effect.source for effect in ending.effects]
    found += [effect.replacement for effect in ending.effects if effect.replacement is not None]
    stored = (output for store in ending.stores for output in store.outputs)
    found += [output.source for output in (*ending.outputs, *stored) if output.source is not None]
    return found if ending.backward is None else found + ending.backward.leaves


def _field_names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _has_plain_fields(item: Any) -> bool:
    """Whether the fields of an instance of a dataclass stand in its dict, and are what they look like."""
    names, held = [field.name for field in dataclasses.fields(item)], getattr(item, "__dict__", {})
    return all(name in held and not hasattr(getattr(type(item), name, None), "__set__") for name in names)


def _is_plain(structure: tree.Structure) -> bool:
    """Whether native code makes such containers."""
    return structure is None or (structure[0] in (tuple, list, dict) and all(map(_is_plain, structure[2])))


def _unflattened(structure: tree.Structure, leaves: list[Any]) -> Any:
    return tree.unflatten(structure, iter(leaves))


def _slots(cls: type) -> list[str]:
    """What its instances have besides those of its bases, but for what starts out empty."""
    return [slot for slot in cls.__dict__.get("__slots__", ()) if slot not in ("__dict__", "__weakref__")]


# What ends of paths consist of: with anything more, they would have to be signed in another way.
_IS_COMPLETE = (
    _field_names(Ending) == {
        "values", "outputs", "structure", "effects", "stores", "backward", "parameters", "labels", "places",
        "calls", "signed",
    }
    and _field_names(Effect) == {"source", "attribute", "result", "replacement"}
    and _field_names(Output) == {"kind", "result", "source", "static", "spent", "differentiable"}
    and _field_names(Store) == {"change", "structure", "outputs"}
    and CompiledCall.__slots__ == ("_backward", "_inputs", "_residuals")
    and (_slots(CallNode), _slots(CallOutput)) == (["_name", "call"], ["call_node", "index"])
)  # fmt: skip
