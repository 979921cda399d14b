"""The kernel that takes blocks of rows through a chain of kernels: see :mod:`..blockwise`.

Its arguments are a table of words.  A unit of its parallel axis is a matrix, or a part of its blocks: for each unit the
steps of the prologue are taken, then for each block those of the body.

======  ====================================================================================================
words   meaning
======  ====================================================================================================
HEAD    how many arguments all steps have, parts that a matrix is cut into, blocks in each, blocks,
        rows in a block, rows in a matrix, steps of the prologue, steps of the body, columns
REACH   bytes of an element if the reach is to be found out, else 0; matrices in a stack; columns of the last
        product; of its right operand and of its result: the address of the first, and what comes to it for each
        stack, each matrix and each row
        the limit of each block
steps   where the kernel's address stands, matrices in a stack, number of arguments, the step's words, how many
        arguments steps before have, how many of its own change from block to block
        the extent of the kernel's parallel axis in each block
        the arguments of a matrix: a number, and what comes to it for each stack of matrices before this one, each
        matrix before it in its stack, and the worker's number
        what changes: which argument, and what comes to it for each row before the block, each row of the block,
        each column of the limit, each column of the reach
======  ====================================================================================================
"""

from __future__ import annotations

from .writer import Writer

NAME = "tj_blockwise"
VECTOR_BYTES = 64
HEAD, REACH, STEP_HEAD, SUMMANDS, CHANGES = 9, 11, 6, 4, 5
EXPONENT = {4: 0x7F800000, 8: 0x7FF0000000000000}  # the bits that are set where an element is not finite
ALL = {4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}
SIGN = {4: 0x80000000, 8: 0x8000000000000000}  # the only bit of -0.0


def blockwise_module() -> str:
    """LLVM IR of the kernel."""
    writer = _BlockwiseWriter()
    writer.prepare()
    writer.steps()
    for size in SIGN:
        writer.search(size)
    writer.kernel()
    return "\n".join(
        ["declare i64 @llvm.smin.i64(i64, i64)", "declare i64 @llvm.smax.i64(i64, i64)", "", *writer.lines]
    )


class _BlockwiseWriter(Writer):
    def word(self, table: str, number: int | str, kind: str = "i64") -> str:
        return self.let("word", f"load {kind}, ptr {self.offset(table, number, unit='i64')}, align 8")

    def kernel(self) -> None:
        with self.function(f"void @{NAME}(ptr %arguments, i64 %begin, i64 %end, i64 %worker)", hot=True):
            most, parts, share, blocks, rows, m, before, count, n = (self.word("%arguments", i) for i in range(HEAD))
            fixed, own = (self.let(name, f"alloca i64, i64 {most}, align 64") for name in ("fixed", "own"))
            reach = self.offset("%arguments", HEAD, unit="i64")
            limits = self.offset(reach, REACH, unit="i64")
            prologue = self.offset(limits, blocks, unit="i64")
            with self.loop("%begin", "%end", 1) as units:
                matrix = self.let("matrix", f"udiv i64 {units.index}, {parts}")
                first = self.mul(self.let("part", f"urem i64 {units.index}, {parts}"), share)
                steps = self.add(before, count)
                self.do(
                    f"call void @prepare(ptr {prologue}, i64 {steps}, ptr {fixed}, ptr {own}, i64 {matrix}, "
                    f"i64 {blocks}, i64 %worker)"
                )
                same = f"ptr {fixed}, ptr {own}, i64 {blocks}, i64 %worker"
                none = f"i64 0, i64 0, i64 {rows}, i64 {n}, i64 {n}"
                body = self.let("body", f"call ptr @steps(ptr {prologue}, i64 {before}, {same}, {none})")
                least = self.least(reach, matrix, n)
                with self.loop(first, self.min(self.add(first, share), blocks), 1) as each:
                    row = self.mul(each.index, rows)
                    left = self.min(self.sub(m, row), rows)
                    limit = self.word(limits, each.index)
                    block = f"{same}, i64 {each.index}, i64 {row}, i64 {left}, i64 {limit}"
                    far, early = self.max(limit, least), self.max(self.sub(count, "2"), 0)
                    late = self.sub(count, early)
                    end = self.let("end", f"call ptr @steps(ptr {body}, i64 {early}, {block}, i64 {far})")
                    self.let("after", f"call ptr @steps(ptr {end}, i64 {late}, {block}, i64 {far})")
                    with self.when(self.compare("slt", far, n)):
                        found = self.found(reach, 7, matrix, row, left, SIGN, ALL)
                        with self.when(self.compare("ne", found, 0)):
                            self.let("after", f"call ptr @steps(ptr {end}, i64 {late}, {block}, i64 {n})")

    def least(self, reach: str, matrix: str, n: str) -> str:
        """The reach for the sake of what is not finite; all columns where it is not to be found out."""
        is_asked = self.compare("ne", self.word(reach, 0), 0)
        rows = self.select(is_asked, "i64", n, 0)
        return self.select(is_asked, "i64", self.found(reach, 3, matrix, "0", rows, EXPONENT, EXPONENT), n)

    def found(
        self, reach: str, at: int, matrix: str, first: str, rows: str, wanted: dict[int, int], among: dict[int, int]
    ) -> str:
        """After how many of some rows, of the right operand or of the result, no element has the wanted bits."""
        size, inner, columns, start, by_stack, by_matrix, by_row = (
            self.word(reach, number) for number in (0, 1, 2, *range(at, at + 4))
        )
        for count, step in (
            (self.let("stack", f"udiv i64 {matrix}, {inner}"), by_stack),
            (self.let("within", f"urem i64 {matrix}, {inner}"), by_matrix),
            (first, by_row),
        ):
            start = self.add(start, self.mul(count, step))
        is_small = self.compare("eq", size, 4)
        function = self.select(is_small, "ptr", "@search_4", "@search_8")
        bits, mask = (self.select(is_small, "i64", table[4], table[8]) for table in (wanted, among))
        pointer = self.let("start", f"inttoptr i64 {start} to ptr")
        arguments = f"ptr {pointer}, i64 {rows}, i64 {columns}, i64 {by_row}, i64 {bits}, i64 {mask}"
        return self.let("found", f"call i64 {function}({arguments})")

    def search(self, size: int) -> None:
        """After how many rows no element has the wanted bits among some."""
        kind, lanes = f"i{8 * size}", VECTOR_BYTES // size
        vector, mask = f"<{lanes} x {kind}>", f"<{lanes} x i1>"
        parameters = "ptr %first, i64 %rows, i64 %columns, i64 %step, i64 %wanted, i64 %among"
        self.lines.append(f"define internal i64 @search_{size}({parameters}) nounwind {{")
        self.begin("entry")
        scalars = [
            self.let("bits", f"trunc i64 {word} to {kind}") if size == 4 else word for word in ("%wanted", "%among")
        ]
        vectors = []
        for scalar in scalars:
            one = self.let("one", f"insertelement {vector} poison, {kind} {scalar}, i32 0")
            order = f"<{lanes} x i32> zeroinitializer"
            vectors.append(self.let("all", f"shufflevector {vector} {one}, {vector} poison, {order}"))
        whole = self.let("whole", f"and i64 %columns, {-lanes}")
        with self.loop("0", "%rows", 1, [("ptr", "%first"), ("i64", "0")]) as rows:
            row, found = rows.carried
            with self.loop("0", whole, lanes, [(mask, "zeroinitializer")]) as each:
                has = self.has(vector, self.offset(row, each.index, unit=kind), vectors, size)
                each.next = [self.let("any", f"or {mask} {each.carried[0]}, {has}")]
            packed = self.let("packed", f"bitcast {mask} {each.carried[0]} to i{lanes}")
            any_one = self.let("any", f"icmp ne i{lanes} {packed}, 0")
            with self.loop(whole, "%columns", 1, [("i1", any_one)]) as rest:
                has = self.has(kind, self.offset(row, rest.index, unit=kind), scalars, size)
                rest.next = [self.let("any", f"or i1 {rest.carried[0]}, {has}")]
            found = self.select(rest.carried[0], "i64", self.add(rows.index, 1), found)
            rows.next = [self.offset(row, "%step"), found]
        self.do(f"ret i64 {rows.carried[1]}")
        self.lines += ["}", ""]

    def has(self, kind: str, pointer: str, bits: list[str], size: int) -> str:
        wanted, among = bits
        element = self.let("element", f"load {kind}, ptr {pointer}, align {size}")
        return self.let("has", f"icmp eq {kind} {self.let('some', f'and {kind} {element}, {among}')}, {wanted}")

    def prepare(self) -> None:
        """Find the arguments of all steps for the first block of a matrix."""
        parameters = "ptr %first, i64 %count, ptr %fixed, ptr %own, i64 %matrix, i64 %blocks, i64 %worker"
        with (
            self.function(f"internal void @prepare({parameters})", hot=True),
            self.loop("0", "%count", 1, [("ptr", "%first")]) as steps,
        ):
            (step,) = steps.carried
            inner, at = self.word(step, 1), self.word(step, 4)
            stack = self.let("stack", f"udiv i64 %matrix, {inner}")
            within = self.let("within", f"urem i64 %matrix, {inner}")
            extents = self.offset(step, STEP_HEAD, unit="i64")
            start = [("ptr", self.offset(extents, "%blocks", unit="i64"))]
            with self.loop("0", self.word(step, 2), 1, start) as arguments:
                (summands,) = arguments.carried
                value = self.word(summands, 0)
                for number, factor in enumerate((stack, within, "%worker"), 1):
                    value = self.add(value, self.mul(self.word(summands, number), factor))
                for table in ("%fixed", "%own"):
                    place = self.offset(table, self.add(at, arguments.index), unit="i64")
                    self.do(f"store i64 {value}, ptr {place}, align 8")
                arguments.next = [self.offset(summands, SUMMANDS, unit="i64")]
            steps.next = [self.offset(step, self.word(step, 3), unit="i64")]

    def steps(self) -> None:
        """Take some steps for one block; returns what comes after them in the table."""
        parameters = (
            "ptr %first, i64 %count, ptr %fixed, ptr %own, i64 %blocks, i64 %worker, i64 %block, i64 %row, i64 %rows, "
            "i64 %limit, i64 %reach"
        )
        self.lines.append(f"define internal ptr @steps({parameters}) nounwind {{")
        self.begin("entry")
        with self.loop("0", "%count", 1, [("ptr", "%first")]) as steps:
            (step,) = steps.carried
            count, at = self.word(step, 2), self.word(step, 4)
            fixed, own = (self.offset(table, at, unit="i64") for table in ("%fixed", "%own"))
            extents = self.offset(step, STEP_HEAD, unit="i64")
            summands = self.offset(extents, "%blocks", unit="i64")
            start = [("ptr", self.offset(summands, self.mul(count, SUMMANDS), unit="i64"))]
            with self.loop("0", self.word(step, 5), 1, start) as changing:
                (changes,) = changing.carried
                which = self.word(changes, 0)
                value = self.word(fixed, which)
                for number, factor in enumerate(("%row", "%rows", "%limit", "%reach"), 1):
                    value = self.add(value, self.mul(self.word(changes, number), factor))
                self.do(f"store i64 {value}, ptr {self.offset(own, which, unit='i64')}, align 8")
                changing.next = [self.offset(changes, CHANGES, unit="i64")]
            address = self.let("address", f"load ptr, ptr {self.word(step, 0, 'ptr')}, align 8")
            self.do(f"call void {address}(ptr {own}, i64 0, i64 {self.word(extents, '%block')}, i64 %worker)")
            steps.next = [self.offset(step, self.word(step, 3), unit="i64")]
        self.do(f"ret ptr {steps.carried[0]}")
        self.lines += ["}", ""]
