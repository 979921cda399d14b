"""A compiled path of a jitted function: the program, where its inputs come from, and what it does to the world."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit.backends.cpu import compiler, runtime
from tracejit.backends.program import KernelCall, Program, plan
from tracejit.ir import Constant, Graph, Location, Value
from tracejit.ir.interpreter import interpret
from tracejit.ir.passes import optimize
from tracejit.ir.types import TensorType

from . import dispatch, tree
from .locations import at_user_line
from .state import thread
from .tape import Call, CallNode, CallOutput, Node, apply, node_of, with_history
from .tensor import Tensor, new_tensor
from .tracing import Check, Guard, Input, Source, Trace

# A line on which a kernel begins, in LLVM IR, assembly, CUDA C and PTX.
_DEFINITION = re.compile(r"(?:^define .*@|^|__global__.* |\.entry )(\w+_[0-9a-f]{12})(?=[(:])")

_effects = threading.RLock()  # held by calls that change tensors, so that none of several threads' updates is lost


@dataclass
class Effect:
    """What a call does to a tensor that was there before: a new value, or a new ``.grad``."""

    source: Source
    attribute: str  # "_value" or "_grad"
    result: int | None  # which result; None clears the gradient
    replacement: Source | None = None  # the gradient is a tensor that was there before


@dataclass
class Output:
    """One leaf of what the function returns."""

    kind: str  # "tensor", "number", "existing" or "static"
    result: int = -1
    source: Source | None = None
    static: Any = None
    spent: bool = False  # requires gradients, but its graph has been freed
    differentiable: int | None = None  # its number among the outputs that gradients can be asked for


@dataclass
class Backward:
    """The compiled gradient of one path: from residuals and cotangents to the gradients of its leaves."""

    joint: Graph  # forward and backward in one, over the inputs and the cotangents: for higher derivatives
    forward_ops: int
    cotangents: list[Value]
    gradients: list[Value]
    graph: Graph
    leaves: list[Source]
    leaf_values: list[tuple[Source, Value]]  # the leaves' parameters in the joint graph
    residuals: list[int]  # positions among the forward program's results
    outputs: list[TensorType]
    _executable: runtime.Executable | None = None

    @functools.cached_property
    def optimized(self) -> Graph:
        return optimize(self.graph)

    @functools.cached_property
    def program(self) -> Program:
        return plan(self.optimized)

    @property
    def executable(self) -> runtime.Executable:
        if self._executable is None:
            self._executable = runtime.Executable(self.program)
        return self._executable


class CompiledCall(Call):
    """One call of a path whose outputs need gradients: what its backward reads."""

    def __init__(self, backward: Backward, inputs: list[np.ndarray], residuals: list[np.ndarray]) -> None:
        self._backward, self._inputs, self._residuals = backward, inputs, residuals

    def backward(self, cotangents: Mapping[int, Any]) -> Sequence[Any]:
        given = [
            cotangents[i] if i in cotangents else np.zeros(type.static_shape, type.dtype)
            for i, type in enumerate(self._backward.outputs)
        ]
        return self._backward.executable([*self._residuals, *given])

    def differentiable_backward(self, cotangents: Mapping[int, Tensor], inputs: Any) -> Sequence[Tensor]:
        """Run the joint graph on tensors: its forward part from the inputs with their history, then its backward."""
        backward = self._backward
        known: dict[Value, Tensor] = {}
        edges = dict(zip(backward.leaves, inputs, strict=True))
        for parameter, array in zip(backward.joint.parameters, self._inputs, strict=True):
            known[parameter] = new_tensor(array)
        for source, value in backward.leaf_values:
            known[value] = with_history(known[value]._value, edges[source])
        for i, (value, type) in enumerate(zip(backward.cotangents, backward.outputs, strict=True)):
            known[value] = cotangents[i] if i in cotangents else new_tensor(np.zeros(type.static_shape, type.dtype))

        def read(value: Value) -> Tensor:
            return new_tensor(value.array) if isinstance(value, Constant) else known[value]

        for op in backward.joint.ops:
            known[op.result] = apply(op.primitive, [read(v) for v in op.operands], op.attributes)
        return [read(value) for value in backward.gradients]


@dataclass
class Compiled:
    """One traced and compiled path of a function."""

    trace: Trace
    graph: Graph
    optimized: Graph
    program: Program
    executable: runtime.Executable
    inputs: list[Input]
    guards: list[Guard]
    effects: list[Effect]
    checks: list[tuple[int, Check]]
    outputs: list[Output]
    structure: tree.Structure
    seconds: dict[str, float]
    backward: Backward | None = None
    calls: int = 0

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        return all(guard.holds(tensors) for guard in self.guards)

    def run(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> Any:
        """Run the program, then commit its effects: all, or none where something fails."""
        if not self.effects:
            return self._run(tensors, floats)
        with _effects:  # what is read, computed and written back belongs together
            return self._run(tensors, floats)

    def _run(self, tensors: Sequence[Tensor], floats: Sequence[float]) -> Any:
        arrays = [source.array(tensors, floats) for source in self.inputs]
        results = _checked_run(self, arrays) if thread.anomaly or self.trace.anomaly else self.executable(arrays)
        for position, check in self.checks:
            if not results[position]:
                check.fail()
        self.calls += 1
        updates = [  # all are found before any is made: one may take away the gradient that another changes
            (effect.source.find(tensors), effect.attribute, self._update(effect, tensors, results))
            for effect in self.effects
        ]
        node = None if self.backward is None else self._call_node(self.backward, tensors, arrays, results)
        returned = [self._returned(output, tensors, results, node) for output in self.outputs]
        for target, attribute, update in updates:
            setattr(target, attribute, update)
        return returned[0] if self.structure is None else tree.unflatten(self.structure, iter(returned))

    def text(self, stage: str) -> str:
        """A stage of the compilation, for people."""
        match stage:
            case "trace":
                return str(self.graph)
            case "grad":
                # Where backward() is called inside, the gradient is part of the trace.
                return str(self.graph if self.backward is None else self.backward.optimized)
            case "optimized":
                return str(self.optimized)
            case "kernels":
                return str(self.program)
            case "llvm":
                return self._with_lines(compiler.module_text(self.program.kernels), ";")
            case "asm":
                return self._with_lines(compiler.assembly(compiler.module_text(self.program.kernels)), "#")
        from tracejit.backends.cuda import codegen, nvrtc

        source = codegen.module_source(self.program.kernels)
        return self._with_lines(source if stage == "cuda" else nvrtc.compile_to_ptx(source), "//")

    def _with_lines(self, text: str, comment: str) -> str:
        """Code with the user's lines that each kernel stands for written before it."""
        lines: dict[str, dict[str, None]] = {}
        for call in self.program.calls:
            if isinstance(call, KernelCall):
                found = lines.setdefault(call.kernel.name, {})
                found.update(dict.fromkeys(str(location) for location in call.locations))
        result = []
        for line in text.split("\n"):
            match = _DEFINITION.search(line)
            if match is not None and match[1] in lines:
                result.append(f"{comment} {', '.join(lines.pop(match[1]))}")
            result.append(line)
        return "\n".join(result)

    @staticmethod
    def _update(effect: Effect, tensors: Sequence[Tensor], results: list[np.ndarray]) -> Any:
        if effect.replacement is not None:
            return effect.replacement.find(tensors)
        if effect.result is None:
            return None
        value = results[effect.result]
        return value if effect.attribute == "_value" else new_tensor(value)

    @staticmethod
    def _call_node(
        backward: Backward, tensors: Sequence[Tensor], arrays: list[np.ndarray], results: list[np.ndarray]
    ) -> CallNode:
        call = CompiledCall(backward, arrays, [results[position] for position in backward.residuals])
        leaves = [source.find(tensors) for source in backward.leaves]
        return CallNode(call, tuple(None if leaf is None else node_of(leaf) for leaf in leaves))

    @staticmethod
    def _returned(output: Output, tensors: Sequence[Tensor], results: list[np.ndarray], node: CallNode | None) -> Any:
        if output.kind == "static":
            return output.static
        if output.kind == "existing":
            assert output.source is not None
            return output.source.find(tensors)
        value = results[output.result]
        if output.kind == "number":
            return float(value)
        tensor = new_tensor(value)
        if output.spent:
            tensor._requires_grad = True
            tensor._node = Node(None, (), TensorType(value.dtype, value.shape), None)
        elif output.differentiable is not None:
            assert node is not None
            tensor._requires_grad = True
            tensor._node = CallOutput(node, output.differentiable, TensorType(value.dtype, value.shape))
        return tensor


def _checked_run(compiled: Compiled, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The traced graph, op by op, until one makes a NaN out of none: the same bits as the program's."""

    def evaluate(primitive: Any, operands: Sequence[np.ndarray], attributes: Any) -> np.ndarray:
        result = runtime.evaluate(primitive, operands, attributes)
        if (
            result.dtype.kind == "f"
            and np.isnan(result).any()
            and not any(a.dtype.kind == "f" and np.isnan(a).any() for a in operands)
        ):
            raise FloatingPointError(dispatch.nan_message(primitive, operands, result))
        return result

    locations = iter([op.location for op in compiled.graph.ops])
    current: list[Location | None] = [None]

    def located(primitive: Any, operands: Sequence[np.ndarray], attributes: Any) -> np.ndarray:
        current[0] = next(locations)
        return evaluate(primitive, operands, attributes)

    try:
        with np.errstate(all="ignore"):
            return interpret(compiled.graph, arrays, located)
    except FloatingPointError as error:
        if current[0] is not None and current[0].gradient:
            error.args = (f"{error.args[0]}, in the gradient",)
        raise at_user_line(error, current[0]) from None
