"""From a compiled path to a signature: what native code does in place of :func:`tracejit.compiled.run`.

A call that is about to be made in Python has found its path, so everything that the path relies on holds at this
moment.  The signature says how native code sees at a later call that it still does, where the inputs are, and what
becomes of the results; what has no such form is :class:`~.looking.Unsigned`, and stays in Python.  Where the path
parts, the ways that calls have gone are signed too, as far as what they rely on holds now.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from tracejit.backends.cpu import signatures
from tracejit.backends.cpu.signatures import Do, Signature
from tracejit.ir import Value
from tracejit.ir.masks import settings as masks
from tracejit.ir.primitives.effect import callback

from .compiled import RUNS_BEFORE_COMPILING
from .config import config
from .finishing import IS_COMPLETE, Finishing, sources_of
from .looking import Unsigned
from .paths import Segment, choose
from .sources import Argument, FloatArgument, Source
from .state import changes, thread
from .tensor import Tensor
from .unpacking import Unpacking

if TYPE_CHECKING:
    from .arguments import ArgumentsOfCall

MOST_BYTES = 64  # of a value that decides


def sign(call: ArgumentsOfCall, root: Segment) -> Signature:
    """The signature of a call that took a path from this root."""
    thread.arguments = call.args, call.kwargs
    try:
        return Signing(call).run(root)
    finally:
        thread.arguments = None


class Signing(Unpacking, Finishing):
    """A signature under construction."""

    def run(self, root: Segment) -> Signature:
        _, _, _, records, _ = self._call.key
        if not IS_COMPLETE:
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
            registers = {source.key: self._of(source) for source in sources_of(segment.ending)}
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
