"""Rows: reductions over the innermost axis, by a warp or by a block of threads for each point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracejit.ir.primitives.reduction import BLOCK, LANES
from tracejit.ir.types import DType, short_name

from .. import kernel as k
from . import instructions
from .analysis import is_ordered
from .emission import Emitter, address_text, combined, lesser, name_of, read
from .held import Held, Pass
from .vectors import BYTES, is_along


class WarpEmitter(Emitter):
    """A warp goes through its row, and again for each pass."""

    member = "lane == 0"

    def place(self) -> None:
        self.line(f"const int lane = threadIdx.x % {LANES};")

    def points(self) -> None:
        position, count = self.count()
        points = self.form.points
        first, step = f"blockIdx.x * {points}ll + threadIdx.x / {LANES}", f"gridDim.x * {points}ll"
        with self.braces(f"for (long long {position} = {first}; {position} < {count}; {position} += {step})"):
            self.point()

    def inner_loop(self, loop: k.Loop) -> None:
        axis = loop.axis
        with (
            self.split_between_lanes(),
            self.braces(f"for (long long {axis} = lane; {axis} < {loop.extent}; {axis} += {LANES})"),
        ):
            self.block(loop.body)

    def reduce(self, reduce: k.Reduce) -> None:
        results = [name_of(combination.result) for combination in reduce.combinations]
        self.accumulators(reduce, results)
        if reduce.block is not None:
            first, end = f"{reduce.block} * {BLOCK}", f"({reduce.block} + 1) * {BLOCK}"
            self.combine_lanes(reduce, results, f"{first} + lane", lesser(reduce.extent, end))
        else:
            self.combine_in_order(reduce, results)
        self.fold(reduce, results)


class RowEmitter(WarpEmitter):
    """A block goes through its row: its warps sum the blocks of the order, side by side.

    With ``form.held`` the row lies in shared memory after it was read once.
    """

    member = "threadIdx.x == 0"

    def alone(self) -> list[str]:
        return []

    def place(self) -> None:
        self.line(f"const int lane = threadIdx.x % {LANES}, warp = threadIdx.x / {LANES};")

    def points(self) -> None:
        position, count = self.count()
        with self.braces(f"for (long long {position} = blockIdx.x; {position} < {count}; {position} += gridDim.x)"):
            self.point()

    def inner_loop(self, loop: k.Loop) -> None:
        axis, threads = loop.axis, self.form.threads
        with (
            self.split_between_lanes(),
            self.braces(f"for (long long {axis} = threadIdx.x; {axis} < {loop.extent}; {axis} += {threads})"),
        ):
            self.block(loop.body)

    def reduce(self, reduce: k.Reduce) -> None:
        results = [name_of(combination.result) for combination in reduce.combinations]
        self.accumulators(reduce, results)
        if any(map(is_ordered, reduce.combinations)):
            self._combine_blocks(reduce, results)
        else:
            self.combine_lanes(reduce, results, "threadIdx.x", str(reduce.extent), self.form.threads)
            self.combine_warps(reduce.combinations, results)

    def _combine_blocks(self, reduce: k.Reduce, results: Sequence[str]) -> None:
        """As many blocks as there are lanes at a time: the warps sum them up, each lane then takes one, in order."""
        extent, tables = reduce.extent, self.tables(reduce.combinations)
        parts = [f"part_{result}" for result in results]
        with self.braces(f"for (long long round = 0; round < {extent}; round += {LANES * BLOCK})"):
            with self.braces(f"for (int block = warp; block < {LANES}; block += {self.form.threads // LANES})"):
                self.line(f"const long long first = round + block * {BLOCK}ll;")
                self.line(f"if (first >= {extent}) break;")
                self.accumulators(reduce, parts)
                self.combine_lanes(reduce, parts, "first + lane", lesser(extent, f"first + {BLOCK}"))
                self.fold(reduce, parts)
                for table, part in zip(tables, parts, strict=True):
                    self.line(f"if (lane == 0) {table}[block] = {part};")
            self.line("__syncthreads();")
            with self.braces(f"if (round + lane * {BLOCK}ll < {extent})"):
                for combination, result, table in zip(reduce.combinations, results, tables, strict=True):
                    self.line(f"{result} = {combined(combination, result, f'{table}[lane]')};")
            self.line("__syncthreads();")
        self.fold(reduce, results)

    def combine_warps(self, combinations: Sequence[k.Combination], results: Sequence[str]) -> None:
        """The threads' results to one, where the order does not matter: first within each warp."""
        tables = self.tables(combinations)
        for combination, table, result in zip(combinations, tables, results, strict=True):
            self.fold_warp(combination, result)
            self.line(f"if (lane == 0) {table}[warp] = {result};")
        self.line("__syncthreads();")
        for combination, table, result in zip(combinations, tables, results, strict=True):
            self.line(f"{result} = lane < {self.form.threads // LANES} ? {table}[lane] : {read(combination.identity)};")
        self.line("__syncthreads();")
        for combination, result in zip(combinations, results, strict=True):
            self.fold_warp(combination, result)

    def tables(self, combinations: Sequence[k.Combination], of: str = "row") -> list[str]:
        """A table in shared memory for each of the values that are reduced."""
        names = []
        for number, combination in enumerate(combinations):
            dtype = combination.result.dtype
            names.append(f"{of}_{short_name(dtype)}_{number}")
            self.shared[names[-1]] = f"__shared__ {instructions.element_type(dtype)} {names[-1]}[{LANES}];"
        return names


class SharedRowEmitter(RowEmitter):
    """As :class:`RowEmitter`, but what is read more than once is in shared memory then."""

    def points(self) -> None:
        self.line("TJ_DYNAMIC(dynamic);")
        super().points()

    def point(self) -> None:
        held = self.form.held
        assert held is not None
        self.axes()
        (reduce, *_) = [one.statement for one in held.passes]
        self.line("__syncthreads();  // the last row has been read")
        offset = "0"
        for number, load in enumerate(held.loads.values()):
            type, size = instructions.memory_type(self.dtypes[load.buffer]), self.dtypes[load.buffer].itemsize
            width = BYTES // size
            address = k.Address(load.address.offset, {**load.address.terms, reduce.axis: 0}, load.address.dynamic)
            self.line(f"{type} *const row{number} = ({type} *)(dynamic + {offset});")
            source = f"{load.buffer} + {address_text(address)}"
            self.line(f"tj_fetch<{type}, {width}>(row{number}, {source}, {reduce.extent});")
            offset += f" + ({reduce.extent} * {size} + {BYTES - 1}) / {BYTES} * {BYTES}"
        self.line("__syncthreads();")
        for one in held.passes:
            for statement in one.body:
                if isinstance(statement, k.Load) and held.keys[id(statement.result)] in held.loads:
                    number = list(held.loads).index(held.keys[id(statement.result)])
                    self.known[id(statement)] = f"row{number}[{reduce.axis}]"
        for loop, inside in zip(self.loops, [*self.loops[1:], None], strict=True):
            self.block([statement for statement in loop.body if statement is not inside])


class HeldEmitter(RowEmitter):
    """A warp or a block goes through its row, of which each thread has its part in registers.

    A part is chunks of neighbouring elements, read at once.  A block's sums go through shared memory, from where each
    lane takes the elements that the order gives it; a warp's threads have those of their lane already.
    """

    @property
    def held(self) -> Held:
        assert self.form.held is not None
        return self.form.held

    @property
    def is_warp(self) -> bool:
        return self.held.threads == LANES

    @property
    def member(self) -> str:  # type: ignore[override]
        return "lane == 0" if self.is_warp else "threadIdx.x == 0"

    def alone(self) -> list[str]:
        return [f"threadIdx.x < {LANES}"] if self.is_warp else []

    def place(self) -> None:
        if self.is_warp:
            WarpEmitter.place(self)
        else:
            super().place()
        if self.held.shared_bytes:
            self.line("TJ_DYNAMIC(dynamic);")
        if self.held.width > 1:
            buffers = dict.fromkeys(access.buffer for one in self.held.passes for access in self._accesses(one))
            aligned = " && ".join(f"(unsigned long long){buffer} % {BYTES} == 0" for buffer in buffers)
            self.line(f"const bool aligned = {aligned};")

    def points(self) -> None:
        WarpEmitter.points(self) if self.is_warp else super().points()

    def point(self) -> None:
        held = self.held
        count = held.chunks * held.width
        for number, load in enumerate(held.loads.values()):
            self._hold(f"read{number}", self.dtypes[load.buffer], instructions.memory_type, count)
        for number, node in enumerate(held.kept.values()):
            self._hold(f"kept{number}", node.result.dtype, instructions.element_type, count)
        super().point()

    def _hold(self, name: str, dtype: DType, type: Callable[[DType], str], count: int) -> None:
        """An array in registers."""
        in_pairs = self.held.is_paired(dtype)
        self.line(f"{'unsigned int' if in_pairs else type(dtype)} {name}[{count // 2 if in_pairs else count}];")

    def _place(self, name: str, dtype: DType) -> str:
        """Where the thread's element is."""
        width = self.held.width
        if self.held.is_paired(dtype):
            return f"{name}[c * {width // 2} + e / 2]"
        return f"{name}[c * {width} + e]"

    def block(self, statements: Sequence[k.Statement]) -> None:
        """What is kept for a later pass is written down, and read there."""
        kept = list(self.held.kept)
        for statement in statements:
            key = self.held.keys.get(id(getattr(statement, "result", None)))
            if key is None or key not in kept or not isinstance(statement, k.Instruction | k.Call):
                super().block([statement])
                continue
            dtype = statement.result.dtype
            place, in_pairs = self._place(f"kept{kept.index(key)}", dtype), self.held.is_paired(dtype)
            if self.held.kept[key] is statement:
                super().block([statement])
                name = name_of(statement.result)
                self.line(f"tj_put({place}, e, {name});" if in_pairs else f"{place} = {name};")
            else:
                self.define(statement.result, f"tj_get({place}, e)" if in_pairs else place)

    def inner_loop(self, loop: k.Loop) -> None:
        with self.split_between_lanes():
            self._pass(loop, ())

    def reduce(self, reduce: k.Reduce) -> None:
        results = [name_of(combination.result) for combination in reduce.combinations]
        self.accumulators(reduce, results)
        pairs = list(zip(reduce.combinations, results, strict=True))
        through = [] if self.is_warp else [(c, name) for c, name in pairs if is_ordered(c)]
        rest = [(c, name) for c, name in pairs if (c, name) not in through]
        lines = []
        offset = 0
        for combination, name in through:
            type = instructions.element_type(combination.result.dtype)
            self.line(f"{type} *const row_{name} = ({type} *)(dynamic + {offset});")
            offset += self.held.capacity * combination.result.dtype.itemsize
            lines.append(f"row_{name}[{reduce.axis}] = {read(combination.value)};")
        lines += [f"{name} = {combined(c, name, read(c.value))};" for c, name in rest]
        with self.split_between_lanes():
            self._pass(reduce, lines)
        if self.is_warp:
            self.fold(reduce, results)
            return
        if through:
            self._sum_in_order(reduce, through)
        if rest:
            self.combine_warps([c for c, _ in rest], [name for _, name in rest])

    def _sum_in_order(self, reduce: k.Reduce, through: Sequence[tuple[k.Combination, str]]) -> None:
        """The row stands in shared memory: a warp for each of its blocks, whose lanes take their elements in turn.

        The sums' tables are nothing else's: they are written behind one barrier, and read behind the other.
        """
        tables = self.tables([combination for combination, _ in through], "sums")
        self.line("__syncthreads();")
        warps = self.form.threads // LANES
        with self.braces(f"for (int block = warp; block * {BLOCK} < {reduce.extent}; block += {warps})"):
            self.line(f"const int end = {lesser(reduce.extent, f'(block + 1) * {BLOCK}')};")
            for (combination, name), table in zip(through, tables, strict=True):
                type = instructions.element_type(combination.result.dtype)
                self.line(f"{type} part_{name} = {read(combination.identity)};")
                self.line("#pragma unroll 8")
                with self.braces(f"for (int next = block * {BLOCK} + lane; next < end; next += {LANES})"):
                    self.line(f"part_{name} = {combined(combination, f'part_{name}', f'row_{name}[next]')};")
                self.fold_warp(combination, f"part_{name}")
                self.line(f"if (lane == 0) {table}[block] = part_{name};")
        self.line("__syncthreads();")
        for (combination, name), table in zip(through, tables, strict=True):
            self.line(
                f"if (lane * {BLOCK} < {reduce.extent}) {name} = {combined(combination, name, f'{table}[lane]')};"
            )
            self.fold_warp(combination, name)

    # A pass -----------------------------------------------------------------------------------------

    def _accesses(self, one: Pass) -> list[k.Load | k.Store]:
        """What is read and written in vectors; not what is held from an earlier pass."""
        axis, held = one.statement.axis, self.held
        return [
            s
            for s in one.body
            if isinstance(s, k.Load | k.Store)
            and is_along(s.address, axis)
            and (isinstance(s, k.Store) or held.loads.get(held.keys[id(s.result)], s) is s)
        ]

    def _pass(self, statement: k.Reduce | k.Loop, last: Sequence[str]) -> None:
        """Through this thread's elements, chunk by chunk; the lines stand at the end of each element."""
        held = self.held
        (one,) = [one for one in held.passes if one.statement is statement]
        axis, width = statement.axis, held.width
        keys = list(held.loads)
        accesses = self._accesses(one) if width > 1 else []
        for load in one.body:
            if isinstance(load, k.Load) and held.keys[id(load.result)] in held.loads:
                dtype = self.dtypes[load.buffer]
                place = self._place(f"read{keys.index(held.keys[id(load.result)])}", dtype)
                self.known[id(load)] = f"tj_get({place}, e)" if held.is_paired(dtype) else place
        thread = "lane" if self.is_warp else "threadIdx.x"
        self.line("#pragma unroll")
        with self.braces(f"for (int c = 0; c < {held.chunks}; ++c)"):
            self.line(f"const int start = (c * {held.threads} + {thread}) * {width};")
            with self.braces(f"if (start < {statement.extent})"):
                self.line(f"const int {axis} = start;")
                for number, access in enumerate(accesses):
                    self._vector(number, access, keys)
                self.line("#pragma unroll")
                with self.braces(f"for (int e = 0; e < {width}; ++e)"):
                    self.line(f"const long long {axis} = start + e;")
                    for load in one.body if width == 1 else ():
                        if isinstance(load, k.Load) and held.loads.get(held.keys[id(load.result)]) is load:
                            self.line(f"{self.known[id(load)]} = {load.buffer}[{address_text(load.address)}];")
                    self.block(one.body)
                    for line in last:
                        self.line(line)
                for number, access in enumerate(accesses):
                    if isinstance(access, k.Store):
                        self.line(f"tj_store({access.buffer} + {address_text(access.address)}, w{number}, aligned);")

    def _vector(self, number: int, access: k.Load | k.Store, keys: Sequence[object]) -> None:
        """The variable with the elements that an access is about."""
        held, width = self.held, self.held.width
        type = instructions.memory_type(self.dtypes[access.buffer])
        if isinstance(access, k.Store):
            self.line(f"tj_vector<{type}, {width}> w{number};")
            self.known[id(access)] = f"w{number}.e[e]"
            return
        source = f"{access.buffer} + {address_text(access.address)}"
        in_pairs = held.is_paired(self.dtypes[access.buffer])
        count, verb = (width // 2, "tj_load_pairs") if in_pairs else (width, "tj_load")
        type = "unsigned int" if in_pairs else type
        self.line(f"const tj_vector<{type}, {count}> w{number} = {verb}<{count}>({source}, aligned);")
        if id(access) not in self.known:
            self.known[id(access)] = f"tj_get(w{number}.e[e / 2], e)" if in_pairs else f"w{number}.e[e]"
            return
        self.line("#pragma unroll")
        place = f"read{keys.index(held.keys[id(access.result)])}"
        self.line(f"for (int e = 0; e < {count}; ++e) {place}[c * {count} + e] = w{number}.e[e];")
