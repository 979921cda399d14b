"""Memory: buffers that live at the same time share no bytes, and no tensor changes because another one does."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import tracejit as tj
from tracejit.backends.cpu import runtime
from tracejit.backends.memory import ALIGNMENT, Lifetime, plan_arena
from tracejit.backends.planning import plan
from tracejit.ir.interpreter import interpret
from tracejit.ir.parser import parse

pytestmark = pytest.mark.usefixtures("first_code_only")

# The plan -------------------------------------------------------------------------------------------


@st.composite
def lifetimes(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[int, Lifetime]:
    buffers = {}
    for key in range(draw(st.integers(0, 12))):
        first = draw(st.integers(0, 8))
        size = draw(st.one_of(st.integers(0, 300), st.sampled_from([0, 1, 63, 64, 65, 4096])))
        buffers[key] = Lifetime(size, first, first + draw(st.integers(0, 8)))
    return buffers


@settings(max_examples=300, deadline=None)
@given(lives=lifetimes())
def test_buffers_that_live_together_do_not_overlap(lives: dict[int, Lifetime]) -> None:
    offsets, total = plan_arena(lives)
    assert set(offsets) == set(lives)
    assert all(offset % ALIGNMENT == 0 for offset in offsets.values())
    assert all(offsets[key] + life.nbytes <= total for key, life in lives.items())
    assert total <= sum(life.nbytes + ALIGNMENT for life in lives.values())
    for key, life in lives.items():
        for other, another in lives.items():
            if key != other and life.first <= another.last and another.first <= life.last:
                low, high = sorted([(offsets[key], life.nbytes), (offsets[other], another.nbytes)])
                assert low[0] + low[1] <= high[0] or 0 in (low[1], high[1]), f"{key} and {other} overlap"


def test_the_arena_of_a_program_is_shared() -> None:
    """Twenty products in a row: two intermediates are alive at a time."""
    lines = [f"%v{i + 1} = dot %v{i}, %w : f32[64,64]" for i in range(20)]
    graph = parse("func @f(%v0: f32[64,64], %w: f32[64,64]) -> (f32[64,64]) { " + "\n".join(lines) + "\nreturn %v20 }")
    assert plan(graph).arena_bytes == 2 * 64 * 64 * 4


def test_a_program_has_one_workspace() -> None:
    """However often it was called, by Python and by native code; and none that was called but once."""
    lines = [f"%v{i + 1} = dot %v{i}, %w : f32[512,512]" for i in range(3)]
    text = "func @f(%v0: f32[512,512], %w: f32[512,512]) -> (f32[]) { " + "\n".join(lines)
    program = plan(parse(text + " %s = reduce_sum %v3 {axes=[0, 1]} : f32[]  return %s }"))
    executable = runtime.Executable(program)
    arrays = [np.ones((512, 512), np.float32)] * 2
    tracemalloc.start()
    try:
        for held in (0, 1, 1):
            executable(arrays)
            assert tracemalloc.get_traced_memory()[0] // program.arena_bytes == held
    finally:
        tracemalloc.stop()


def test_what_is_computed_late_is_not_computed_early_and_kept() -> None:
    products = "\n".join(f"%c{i + 1} = dot %c{i}, %w : f32[64,64]" for i in range(6))
    graph = parse(f"""func @f(%x: f32[64,64], %w: f32[64,64]) -> (f32[64,64]) {{
        %a = exponential %x : f32[64,64]
        %c0 = negate %a : f32[64,64]
        {products}
        %d = multiply %a, %a : f32[64,64]
        %e = multiply %d, %c6 : f32[64,64]
        return %e
    }}""")
    first, *_, last = plan(graph).calls
    assert [value.name for value in first.buffers] == ["x", "a", "c0"]
    assert [value.name for value in last.buffers] == ["a", "c6", "e"]


def test_what_is_summed_does_not_wait_for_what_is_done_with_the_sum() -> None:
    products = "\n".join(f"%c{i + 1} = dot %c{i}, %w : f32[64,64]" for i in range(6))
    graph = parse(f"""func @f(%x: f32[64,64], %w: f32[64,64], %t: f32[]) -> (f32[64], f32[]) {{
        %a = negate %x : f32[64,64]
        %s = reduce_sum %a {{axes=[0]}} : f32[64]
        %c0 = dot %a, %w : f32[64,64]
        {products}
        %u = reduce_max %c6 {{axes=[0, 1]}} : f32[]
        %v = add %u, %t : f32[]
        %m = multiply %s, %v : f32[64]
        return %m, %v
    }}""")
    calls = plan(graph).calls
    summed = next(n for n, call in enumerate(calls) if "s" in [value.name for value in call.buffers])
    assert summed <= 1, "the sum waits for what it is multiplied with, and `a` is kept"


# A program's results --------------------------------------------------------------------------------

PROGRAMS = {  # of %x: f32[4]
    "the same value twice": ("f32[4], f32[4]", "%y = add %x, %x : f32[4]  return %y, %y"),
    "an input": ("f32[4], f32[4]", "%y = negate %x : f32[4]  return %x, %y"),
    "a value and its reshape": (
        "f32[4], f32[2,2]",
        "%y = add %x, %x : f32[4]  %z = reshape %y {shape=[2, 2]} : f32[2,2]  return %y, %z",
    ),
    "an input's reshape": ("f32[2,2]", "%y = reshape %x {shape=[2, 2]} : f32[2,2]  return %y"),
    "a reshape of a reshape": (
        "f32[2,2], f32[4,1]",
        "%y = add %x, %x : f32[4]  %z = reshape %y {shape=[2, 2]} : f32[2,2]"
        "  %w = reshape %z {shape=[4, 1]} : f32[4,1]  return %z, %w",
    ),
    "a value and its views": (
        "f32[4], f32[4], f32[2]",
        "%y = add %x, %x : f32[4]  %z = reverse %y {dimensions=[0]} : f32[4]"
        "  %w = slice %y {start=[0], limit=[2], strides=[1]} : f32[2]  return %y, %z, %w",
    ),
    "a whole slice": (
        "f32[4], f32[4]",
        "%w = slice %x {start=[0], limit=[4], strides=[1]} : f32[4]  return %w, %x",
    ),
    "constants": ("f32[2], f32[], f32[2]", "return [1.0, 2.0]:f32[2], 3.0, [1.0, 2.0]:f32[2]"),
    "nothing": ("", "return"),
}


@pytest.mark.parametrize(("types", "body"), PROGRAMS.values(), ids=PROGRAMS)
def test_results_stay(types: str, body: str) -> None:
    """Results are right, keep their values in later calls, and overlap only where they are one array."""
    graph = parse(f"func @f(%x: f32[4]) -> ({types}) {{ {body} }}")
    executable = runtime.Executable(plan(graph))
    x = np.array([1.0, -2.0, 3.0, 4.0], np.float32)
    before = x.copy()
    results = executable([x])
    expected = [array.copy() for array in interpret(graph, [x])]
    executable([x + 1])
    for actual, wanted in zip(results, expected, strict=True):
        assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
        assert np.array_equal(actual, wanted)
    assert np.array_equal(x, before)
    for number, one in enumerate(results):
        for other in results[:number]:
            assert one is other or not np.shares_memory(one, other)


# Tensors --------------------------------------------------------------------------------------------


def ones() -> tj.Tensor:
    return tj.tensor([1.0, 1.0, 1.0, 1.0])


SHARERS: dict[str, Callable[..., Any]] = {
    "the argument": lambda x: (x, x * 2),
    "the argument twice": lambda x: (x, x),
    "the same result twice": lambda x: (lambda y: (y, y))(x * 2),
    "a result and its reshape": lambda x: (lambda y: (y, y.reshape(2, 2)))(x * 2),
    "the argument's reshape": lambda x: x.reshape(2, 2),
    "the argument's slice": lambda x: (x[:], x[0:2]),
    "the argument detached": lambda x: x.detach(),
    "the argument cloned": lambda x: x.clone(),
    "a constant": lambda x: (tj.zeros(4), tj.zeros(4)),
    "a broadcast": lambda x: x[0].expand(3),
    "reshaped to its own shape": lambda x: tj.reshape(x * 1, (4,)),
}


@pytest.mark.parametrize("function", SHARERS.values(), ids=SHARERS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_in_place_changes_one_tensor(function: Callable[..., Any], compiled: bool) -> None:
    """Whatever a function returns, changing one tensor in place changes no other."""
    run = tj.jit(function) if compiled else function
    for changed in range(4):
        x = ones()
        returned = run(x)
        tensors = list({id(t): t for t in (x, *(returned if isinstance(returned, tuple) else (returned,)))}.values())
        if changed >= len(tensors):
            break
        values = [t.tolist() for t in tensors]
        tensors[changed] += 1
        tensors[changed][0] = 7.0
        for number, tensor in enumerate(tensors):
            assert (tensor.tolist() == values[number]) == (number != changed)


NOTHING_TO_DO: dict[str, Callable[[tj.Tensor], tj.Tensor]] = {
    "sum of no axis": lambda x: tj.sum(x, axis=()),
    "getitem": lambda x: x[:],
    "positive": lambda x: +x,
    "abs": lambda x: abs(x),
    "tensor": lambda x: tj.tensor(x),
    "clip": lambda x: x.clip(),
    "reshape": lambda x: x.reshape(4),
    "flatten": lambda x: x.flatten(),
    "squeeze": lambda x: x.squeeze(),
    "permute": lambda x: x.permute((0,)),
    "expand": lambda x: x.expand(4),
    "flip of no axis": lambda x: tj.flip(x, ()),
    "pow 1": lambda x: x**1,
    "round of integers": lambda x: tj.round(x),
    "broadcast_to": lambda x: tj.broadcast_to(x, (4,)),
}


@pytest.mark.parametrize("function", NOTHING_TO_DO.values(), ids=NOTHING_TO_DO)
def test_a_result_is_a_value_of_its_own(function: Callable[[tj.Tensor], tj.Tensor]) -> None:
    """Also where there is nothing to do: else it would depend on the shape whether ``y += 1`` changes x."""
    x = tj.tensor([1, 2, 3, 4])
    y = function(x)
    y += 1
    assert x.tolist() == [1, 2, 3, 4]


def test_the_same_tensor_twice() -> None:
    @tj.jit
    def add(a: tj.Tensor, b: tj.Tensor) -> tj.Tensor:
        a += b
        return a * b

    def eager(a: tj.Tensor, b: tj.Tensor) -> tj.Tensor:
        a += b
        return a * b

    for run in (eager, add, add):
        x, y = ones(), ones()
        assert run(x, x).tolist() == [4.0] * 4
        assert x.tolist() == [2.0] * 4
        assert run(x, y).tolist() == [3.0] * 4
        assert (x.tolist(), y.tolist()) == ([3.0] * 4, [1.0] * 4)


def test_a_result_is_the_next_argument() -> None:
    @tj.jit
    def step(state: tj.Tensor, total: tj.Tensor) -> tuple[tj.Tensor, tj.Tensor]:
        return state * 2, total + state

    state, total = ones(), tj.zeros(4)
    kept = []
    for _ in range(5):
        state, total = step(state, total)
        kept.append(total)
    assert state.tolist() == [32.0] * 4
    assert [t.tolist()[0] for t in kept] == [1.0, 3.0, 7.0, 15.0, 31.0]


def test_swapped_state() -> None:
    a, b = tj.tensor([1.0]), tj.tensor([2.0])

    @tj.jit
    def swap() -> None:
        held = a.clone()
        a.copy_(b)
        b.copy_(held)

    for _ in range(3):
        swap()
    assert (a.item(), b.item()) == (2.0, 1.0)
    a += 1
    assert (a.item(), b.item()) == (3.0, 1.0)


def test_numpy_sees_no_writable_memory() -> None:
    x = ones()
    y = tj.jit(lambda x: x * 2)(x)
    for tensor in (x, y, x[1:], x.reshape(2, 2)):
        array = tensor.numpy()
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5.0
    copied = np.array(x)
    copied[0] = 5.0
    assert x.tolist() == [1.0] * 4


MAKERS: dict[str, Callable[[Any], tj.Tensor]] = {
    "tensor": tj.tensor,
    "asarray": tj.asarray,
    "reshape": lambda a: tj.reshape(a, (2, 2)),
    "jitted tensor": tj.jit(lambda a: tj.tensor(a)),
    "jitted asarray": tj.jit(lambda a: tj.asarray(a)),
    "jitted reshape": tj.jit(lambda a: tj.reshape(a, (2, 2))),
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_array_is_copied(name: str) -> None:
    """A tensor made of an array does not change with the array."""
    array = np.ones(4, np.float32)
    result = MAKERS[name](array)
    array[0] = 9.0
    assert result.sum().item() == 4.0


def test_results_of_calls_in_a_row_do_not_share_memory() -> None:
    function = tj.jit(lambda x: (x + 1, (x * 3).sum(), x.reshape(2, 2)))
    calls = [function(tj.full((4,), float(i))) for i in range(4)]
    for i, (plus, total, square) in enumerate(calls):
        assert plus.tolist() == [i + 1.0] * 4
        assert total.item() == 12.0 * i
        assert square.tolist() == [[i, i], [i, i]]
