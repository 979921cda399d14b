"""The tape in native code: an operation on what wants gradients leaves a node, as ``tracejit.tape`` does in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.ir import TensorType
from tracejit.ir.facts import facts
from tracejit.ir.types import float32

from . import objects
from .instances import Instances, InstanceWriter
from .records import ARRAYS, ATTRIBUTES, NUMBER_ARRAY, PRIMITIVE, SAVES, SAVES_OPERANDS, SAVES_RESULT


@facts(frozen=True)
class Tape:
    """What an operation leaves behind on instances that want gradients.

    ``node`` and ``accumulator`` are slots of the instances; ``Node`` and ``Application`` are classes with slots, of
    which a fresh node has ``None`` in all but four.  One of them, ``number``, is what comes next of ``numbers``.
    ``node_of(instance)`` and ``type_of(array)`` make what is not there yet.  ``thread`` has the attribute ``mode``,
    which is false where nothing is recorded.
    """

    node: str
    accumulator: str
    Node: type
    Application: type
    node_of: Callable[[Any], Any]
    type_of: Callable[[np.ndarray], TensorType]
    thread: Any
    mode: str
    number: str
    numbers: Iterator[int]


class TapeWriter(InstanceWriter):
    """Writes what gives the results of operations on instances their nodes."""

    def __init__(self, instances: Instances, tape: Tape) -> None:
        super().__init__(instances)
        self._node, self._accumulator, self._number = self.slots[tape.node], self.slots[tape.accumulator], tape.number
        self._of_node, self._of_application = (
            {slot: objects.slot_offset(cls, slot) for slot in cls.__slots__}  # type: ignore[attr-defined]
            for cls in (tape.Node, tape.Application)
        )

    def compute_on_tape(
        self, compute: Callable[[str], str], arrays: Sequence[str], form: str, kind: str, dtype: str, failed: str
    ) -> None:
        """Compute, and record it unless this thread does not; the arrays are held, for code of others may run."""
        released, record, recorded, dropped = self.labels("released", "record", "recorded", "dropped")
        for array in arrays:
            self.incref(array)
        mode = self.call("PyObject_GetAttr", "ptr", f"ptr {self.address('thread')}", f"ptr {self.address('mode')}")
        self.guard(self.is_other(mode, "null"), released)
        self.decref(mode)  # it is one of the two booleans, which stay
        result = compute(released)
        self.branch(self.is_same(mode, self.address("False")), recorded, record)
        self.begin(record)
        operands = ["%p", "%x", "%y"][-len(arrays) :]
        arguments = ", ".join(f"ptr {item}" for item in ("%record", *operands, *arrays, dtype, "%scalar", result))
        function = "@record.3"
        if len(arrays) == 2:
            function = self.select(self.is_same("%y", "null"), "ptr", "@record.1", "@record.2")
        self.branch(self.let("failure", f"call i1 {function}({arguments}, i64 {form}, i64 {kind})"), dropped, recorded)
        self.begin(recorded)
        for array in arrays:
            self.decref(array)
        self.do(f"ret ptr {result}")
        self.begin(dropped)
        self.decref(result)
        self.jump(released)
        self.begin(released)
        for array in arrays:
            self.decref(array)
        self.jump(failed)

    def recording(self, operands: int) -> None:
        """``@record.1``, ``@record.2`` and ``@record.3``: give a result its node; true with an error set.

        ``%x`` and ``%y`` are the operands, after the bools ``%p`` of three; ``%x.array`` and so on what they hold, null
        for a number, which stands at ``%scalar``.
        """
        given = ["p", "x", "y"] if operands == 3 else ["x", "y"]
        arguments = [f"ptr %{name}" for name in given] + [f"ptr %{name}.array" for name in given]
        parameters = f"ptr %record, {', '.join(arguments)}, ptr %dtype, ptr %scalar, ptr %result"
        with self.define(f"internal i1 @record.{operands}({parameters}, i64 %form, i64 %kind)"):
            (failed,) = self.labels("failed")
            own = self.owner(3 * operands + 6, failed)
            saves = self.load("%record", SAVES, "i64", "saves")
            names = given[:operands]
            edges = [own(self.let("edge", f"call ptr @edge(ptr %{name}, ptr %{name}.array)")) for name in names]
            is_like = self.is_same("%form", ARRAYS, "i64")  # arrays of one shape have one type
            types, saved = [], []
            others = {"x": edges[-1], "y": edges[-2 % operands]}
            for i, (name, bit) in enumerate(zip(names, SAVES_OPERANDS, strict=False)):
                nodes = f"ptr {edges[i]}, ptr {others.get(name, edges[i])}, i1 {is_like}"
                types.append(own(self.let("type", f"call ptr @type({nodes}, ptr %{name}.array, i64 %kind)")))
                wanted = self.let("wanted", f"and i64 {saves}, {bit}")
                where = f"ptr %{name}.array, ptr %dtype, ptr %scalar"
                saved.append(own(self.let("saved", f"call ptr @saved(i64 {wanted}, {where})")))
            result_type = self.select(
                self.is_same("%form", NUMBER_ARRAY, "i64"), "ptr", types[-1], types[-2 % operands]
            )
            wanted = self.is_other(self.let("wanted", f"and i64 {saves}, {SAVES_RESULT}"), 0, "i64")
            result = self.select(wanted, "ptr", self.value_of("%result"), self.address("None"))
            tuples = [own(self.new_tuple(operands)) for _ in range(3)]
            application = own(self.new_instance(self.address("Application")))
            node = own(self.new_instance(self.address("Node")))
            number = own(self.call("PyIter_Next", "ptr", f"ptr {self.address('numbers')}"))
            # From here on nothing fails, and nothing of others runs: what is owned changes hands.
            for items, contents in zip(tuples, (types, saved, edges), strict=True):
                for position, item in enumerate(contents):
                    self.store(item, items, objects.TUPLE_ITEMS + 8 * position)
            operand_types, operands_, edges_ = tuples
            self.store(operand_types, application, self._of_application["operand_types"])
            self.store(operands_, application, self._of_application["operands"])
            self.fill_slot(application, self._of_application["primitive"], self.load("%record", PRIMITIVE))
            self.fill_slot(application, self._of_application["attributes"], self.load("%record", ATTRIBUTES))
            self.fill_slot(application, self._of_application["result_type"], result_type)
            self.fill_slot(application, self._of_application["result"], result)
            self.store(application, node, self._of_node["application"])
            self.store(edges_, node, self._of_node["edges"])
            self.store(number, node, self._of_node[self._number])
            self.fill_slot(node, self._of_node["type"], result_type)
            for slot in self._of_node.keys() - {"application", "edges", "type", self._number}:
                self.fill_slot(node, self._of_node[slot], self.address("None"))
            self.store(node, "%result", self._node)
            self.decref(self.address("None"))
            self.fill_slot("%result", self.gradient, self.address("True"))
            self.decref(self.address("False"))
            self.do("ret i1 false")
            self.begin(failed)
            self.disown()
            self.do("ret i1 true")

    def edge(self) -> None:
        """``@edge``: the node that a gradient flows to, a new reference, or null with an error set."""
        none = "None"
        with self.define("internal ptr @edge(ptr %item, ptr %array)"):
            nothing, some, leaf, unknown = self.labels("nothing", "some", "leaf", "unknown")
            self.guard(self.is_other("%array", "null"), nothing)
            node = self.load("%item", self._node)
            self.branch(self.is_same(node, self.address(none)), leaf, some)
            self.begin(leaf)
            self.guard(self.wants_gradient("%item"), nothing)
            accumulator = self.load("%item", self._accumulator)
            self.guard(self.is_other(accumulator, self.address(none)), unknown)
            self.return_reference(accumulator)
            self.begin(some)
            self.return_reference(node)
            self.begin(nothing)
            self.return_reference(self.address(none))
            self.begin(unknown)
            self._return_made("node_of", "%item")

    def tape_parts(self) -> None:
        """What :meth:`recording` is made of; each returns a new reference, or null with an error set."""
        none = "None"
        self.edge()
        with self.define("internal ptr @type(ptr %edge, ptr %other, i1 %is.like, ptr %array, i64 %kind)"):
            own, other, number, new, known = self.labels("own", "other", "number", "new", "known")
            self.branch(self.is_same("%edge", self.address(none)), other, own)
            self.begin(own)
            self.arrive(known, node="%edge")
            self.begin(other)
            self.guard(self.both("%is.like", self.is_other("%other", self.address(none))), number)
            self.arrive(known, node="%other")
            (node,) = self.meet(known, node="ptr")
            self.return_reference(self.load(node, self._of_node["type"]))
            self.begin(number)
            self.guard(self.is_same("%array", "null"), new)
            self.return_reference(self.load(self.address("scalar_types"), self.mul("%kind", 8)))
            self.begin(new)
            self._return_made("type_of", "%array")
        with self.define("internal ptr @saved(i64 %wanted, ptr %array, ptr %dtype, ptr %scalar)"):
            nothing, number, single, failed = self.labels("nothing", "number", "single", "failed")
            self.guard(self.is_other("%wanted", 0, "i64"), nothing)
            self.guard(self.is_other("%array", "null"), number)
            self.return_reference("%array")
            self.begin(nothing)
            self.return_reference(self.address(none))
            self.begin(number)
            made = self.new_array("%dtype", "0", "null")
            self.guard(self.is_other(made, "null"), failed)
            self.guard(self.is_other(self.load("%dtype", objects.DTYPE_NUMBER, "i32"), float32.num, "i32"), single)
            self.store(self.load("%scalar", 0, "i64"), self.data_of(made), 0, "i64")
            self.do(f"ret ptr {made}")
            self.begin(single)
            self.store(self.load("%scalar", 0, "i32"), self.data_of(made), 0, "i32")
            self.do(f"ret ptr {made}")
            self.begin(failed)
            self.do("ret ptr null")

    def _return_made(self, function: str, item: str) -> None:
        self.do(f"ret ptr {self.call('PyObject_CallOneArg', 'ptr', f'ptr {self.address(function)}', f'ptr {item}')}")
