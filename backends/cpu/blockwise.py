"""The kernel that takes blocks of rows through a chain of kernels: see :mod:`..blockwise`.

Its arguments are a table of words.  A unit of its parallel axis is a matrix, or a part of its blocks: for each unit the
steps of the prologue are taken, then for each block those of the body.

======  ====================================================================================================
words   meaning
======  ====================================================================================================
HEAD    how many arguments a step has at the most, parts that a matrix is cut into, blocks in each, blocks,
        rows in a block, rows in a matrix, steps of the prologue, steps of the body
        the limit of each block: how many columns are computed
steps   where the kernel's address stands, matrices in a stack, number of arguments, the step's words
        the extent of the kernel's parallel axis in each block
        the arguments, as summands: a number, and what comes to it for each stack of matrices before this one, each
        matrix before it in its stack, each row before the block, the worker's number, each row of the block, each
        column of the limit
======  ====================================================================================================
"""

from __future__ import annotations

from .writer import Writer

NAME = "tj_blockwise"
HEAD, STEP_HEAD, SUMMANDS = 8, 4, 7


def blockwise_module() -> str:
    """LLVM IR of the kernel."""
    writer = _BlockwiseWriter()
    writer.steps()
    writer.kernel()
    return "\n".join(["declare i64 @llvm.smin.i64(i64, i64)", "", *writer.lines])


class _BlockwiseWriter(Writer):
    def word(self, table: str, number: int | str, kind: str = "i64") -> str:
        return self.let("word", f"load {kind}, ptr {self.offset(table, number, unit='i64')}, align 8")

    def kernel(self) -> None:
        with self.function(f"void @{NAME}(ptr %arguments, i64 %begin, i64 %end, i64 %worker)", hot=True):
            most, parts, share, blocks, rows, m, before, count = (self.word("%arguments", n) for n in range(HEAD))
            own = self.let("own", f"alloca i64, i64 {most}, align 64")
            limits = self.offset("%arguments", HEAD, unit="i64")
            prologue = self.offset(limits, blocks, unit="i64")
            with self.loop("%begin", "%end", 1) as units:
                matrix = self.let("matrix", f"udiv i64 {units.index}, {parts}")
                first = self.mul(self.let("part", f"urem i64 {units.index}, {parts}"), share)
                same = f"ptr {own}, i64 {matrix}, i64 {blocks}, i64 %worker"
                none = f"i64 0, i64 0, i64 {rows}, i64 {self.word(limits, 0)}"
                body = self.let("body", f"call ptr @steps(ptr {prologue}, i64 {before}, {same}, {none})")
                with self.loop(first, self.min(self.add(first, share), blocks), 1) as each:
                    row = self.mul(each.index, rows)
                    left = self.min(self.sub(m, row), rows)
                    block = f"i64 {each.index}, i64 {row}, i64 {left}, i64 {self.word(limits, each.index)}"
                    self.let("after", f"call ptr @steps(ptr {body}, i64 {count}, {same}, {block})")

    def steps(self) -> None:
        """Take some steps for one block; returns what comes after them in the table."""
        parameters = (
            "ptr %first, i64 %count, ptr %own, i64 %matrix, i64 %blocks, i64 %worker, i64 %block, i64 %row, i64 %rows, "
            "i64 %limit"
        )
        self.lines.append(f"define internal ptr @steps({parameters}) nounwind {{")
        self.begin("entry")
        with self.loop("0", "%count", 1, [("ptr", "%first")]) as steps:
            (step,) = steps.carried
            cell, inner = self.word(step, 0, "ptr"), self.word(step, 1)
            stack = self.let("stack", f"udiv i64 %matrix, {inner}")
            within = self.let("within", f"urem i64 %matrix, {inner}")
            extents = self.offset(step, STEP_HEAD, unit="i64")
            start = [("ptr", self.offset(extents, "%blocks", unit="i64"))]
            with self.loop("0", self.word(step, 2), 1, start) as arguments:
                (summands,) = arguments.carried
                value = self.word(summands, 0)
                for number, factor in enumerate((stack, within, "%row", "%worker", "%rows", "%limit"), 1):
                    value = self.add(value, self.mul(self.word(summands, number), factor))
                self.do(f"store i64 {value}, ptr {self.offset('%own', arguments.index, unit='i64')}, align 8")
                arguments.next = [self.offset(summands, SUMMANDS, unit="i64")]
            address = self.let("address", f"load ptr, ptr {cell}, align 8")
            self.do(f"call void {address}(ptr %own, i64 0, i64 {self.word(extents, '%block')}, i64 %worker)")
            steps.next = [self.offset(step, self.word(step, 3), unit="i64")]
        self.do(f"ret ptr {steps.carried[0]}")
        self.lines += ["}", ""]
