"""The native code that runs a program: kernels, branches and loops, without returning to Python.

A program is a table of 64-bit words (:mod:`.encoding` writes it), read by ``tj_block``: the number of instructions,
then the instructions.  Each begins with its kind and its length in words.

======  ===================================================================================================
kind    words
======  ===================================================================================================
KERNEL  where the kernel's address stands, extent, grain, number of arguments; the arguments, as places
HOST    the number of a call that Python makes
COPY    the target's place, the source's, bytes
CASE    the selector's place, whether it is a bool, number of regions; for each, where its block is
LOOP    see the names of its words below, then a record for each carry, input and stacked result
SHARED  parts, rows, words of the frame, arguments of a kernel at the most; a LOOP (:mod:`.sharing`)
SWEEP   how often, bands, seams, rows, rows of a block, the largest lag, number of stages; the stages (:mod:`.sweeping`)
======  ===================================================================================================

A *place* is two words: a word of the *frame* and an offset in bytes to add to what it holds.  The frame holds the
addresses of the program's arrays, one word that is zero (so that a number is a place too), and the words that change
while it runs: cursors and numbers of steps.  Where a block is, is told in words from the beginning of its instruction.

Python makes a call through ``callback(number, frame)``, which takes the GIL; it returns 0, or the program stops.  A
loop that runs for long calls it now and then with the number -1, so that Ctrl-C is noticed.
"""

from __future__ import annotations

from string import Template

KERNEL, HOST, COPY, CASE, LOOP, SWEEP, SHARED = range(7)
SWEEP_ARGUMENTS = 1  # before those of the stages: the instruction
SHARED_WORDS = 6  # before the loop

# Words of a loop's instruction.  COUNTED: 0 as long as the predicate says, 1 for LENGTH steps, 2 for as many as the
# word LENGTH of the frame holds.  COUNTER_PLACE is where the number of the step goes, if HAS_COUNTER.
COUNTED, LENGTH, REVERSE, HAS_COUNTER, COUNTER_PLACE = 2, 3, 4, 5, 6
CONDITION_BLOCK, PREDICATE_PLACE, BODY_BLOCK = 8, 9, 11
STEPS = 12  # the word of the frame that gets the number of steps, or -1
LOOKS = 13  # a mask: when all of these bits of the number of the step are 0, the loop looks at the clock
CARRIES, INPUTS, STACKED, LOOP_WORDS = 14, 15, 16, 17

# A carry: its cursor (the next one stands behind it, then the sum of its buffers' addresses), the places of the first
# value, of the result and of the spare buffer, its bytes.
CARRY_WORDS = 8
# An input: its cursor, the place of the whole, bytes a step.
INPUT_WORDS = 4
# A stacked result: the same, and whether its memory grows (its room in bytes then stands behind the whole's cursor).
STACKED_WORDS = 5

# Words of the context.  From LEADER on: where a loop is shared by rows, the context of the thread that shares it (or
# null), the thread's number, its rows, and how many rows there are.
ARGUMENTS, POOL, PARALLEL_FOR, CALLBACK, STATUS, DEADLINE = range(6)
LEADER, WORKER, FIRST_ROW, LAST_ROW, ROWS, CONTEXT_WORDS = range(6, 12)
CONTEXT_BYTES = 8 * CONTEXT_WORDS

LOOK_NANOSECONDS = 50_000_000
LEAST_ROOM = 4096  # bytes

_TEXT = """
declare i32 @clock_gettime(i32, ptr)
declare ptr @realloc(ptr, i64)
declare void @free(ptr)
declare ptr @memmove(ptr, ptr, i64)

; The address that a place stands for.
define internal i64 @address(ptr %place, ptr %frame) nounwind {
  %which = load i64, ptr %place
  %offset.at = getelementptr i64, ptr %place, i64 1
  %offset = load i64, ptr %offset.at
  %word = getelementptr i64, ptr %frame, i64 %which
  %base = load i64, ptr %word
  %address = add i64 %base, %offset
  ret i64 %address
}

; Have Python make a call; where it fails, the program stops.
define internal void @host(i64 %number, ptr %frame, ptr %context) nounwind noinline {
  %callback.at = getelementptr i64, ptr %context, i64 $CALLBACK
  %status.at = getelementptr i64, ptr %context, i64 $STATUS
  %callback = load ptr, ptr %callback.at
  %status = call i64 %callback(i64 %number, ptr %frame)
  store i64 %status, ptr %status.at
  ret void
}

; If the time has come, let Python see whether it is to be interrupted.
define internal void @look(ptr %frame, ptr %context) nounwind noinline {
entry:
  %time = alloca [2 x i64], align 8
  %leader.at = getelementptr i64, ptr %context, i64 $LEADER
  %leader = load ptr, ptr %leader.at
  %leads = icmp eq ptr %leader, null
  br i1 %leads, label %clock, label %follow
follow:
  %leader.status.at = getelementptr i64, ptr %leader, i64 $STATUS
  %own.status.at = getelementptr i64, ptr %context, i64 $STATUS
  %leader.status = load atomic i64, ptr %leader.status.at monotonic, align 8
  store i64 %leader.status, ptr %own.status.at
  br label %done
clock:
  %status = call i32 @clock_gettime(i32 1, ptr %time)  ; CLOCK_MONOTONIC
  %whole = load i64, ptr %time, align 8
  %part.at = getelementptr i8, ptr %time, i64 8
  %part = load i64, ptr %part.at, align 8
  %scaled = mul i64 %whole, 1000000000
  %now = add i64 %scaled, %part
  %deadline.at = getelementptr i64, ptr %context, i64 $DEADLINE
  %deadline = load i64, ptr %deadline.at
  %first = icmp eq i64 %deadline, 0
  br i1 %first, label %set, label %compare
compare:
  %late = icmp sgt i64 %now, %deadline
  br i1 %late, label %ask, label %done
ask:
  call void @host(i64 -1, ptr %frame, ptr %context)
  br label %set
set:
  %next = add i64 %now, $LOOK_NANOSECONDS
  store i64 %next, ptr %deadline.at
  br label %done
done:
  ret void
}

; See to it that there is room for some bytes behind a cursor.
define internal void @reserve(ptr %cursor, i64 %bytes) nounwind noinline {
entry:
  %room.at = getelementptr i64, ptr %cursor, i64 1
  %room = load i64, ptr %room.at
  %enough = icmp sle i64 %bytes, %room
  br i1 %enough, label %done, label %grow
grow:
  %twice = shl i64 %room, 1
  %more = call i64 @llvm.smax.i64(i64 %twice, i64 %bytes)
  %wanted = call i64 @llvm.smax.i64(i64 %more, i64 $LEAST_ROOM)
  %old = load ptr, ptr %cursor
  %new = call ptr @realloc(ptr %old, i64 %wanted)
  store ptr %new, ptr %cursor
  store i64 %wanted, ptr %room.at
  br label %done
done:
  ret void
}
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

; What is this thread's of so many iterations or bytes: the first and what is behind the last.
define internal { i64, i64 } @own(i64 %count, ptr %context) nounwind {
  %first.at = getelementptr i64, ptr %context, i64 $FIRST_ROW
  %last.at = getelementptr i64, ptr %context, i64 $LAST_ROW
  %rows.at = getelementptr i64, ptr %context, i64 $ROWS
  %first.row = load i64, ptr %first.at
  %last.row = load i64, ptr %last.at
  %rows = load i64, ptr %rows.at
  %each = udiv i64 %count, %rows
  %first = mul i64 %each, %first.row
  %last = mul i64 %each, %last.row
  %one = insertvalue { i64, i64 } poison, i64 %first, 0
  %both = insertvalue { i64, i64 } %one, i64 %last, 1
  ret { i64, i64 } %both
}

define internal void @copy(ptr %target, ptr %frame, ptr %context) nounwind noinline {
  %source = getelementptr i64, ptr %target, i64 2
  %bytes.at = getelementptr i64, ptr %target, i64 4
  %all.bytes = load i64, ptr %bytes.at
  %own = call { i64, i64 } @own(i64 %all.bytes, ptr %context)
  %first = extractvalue { i64, i64 } %own, 0
  %last = extractvalue { i64, i64 } %own, 1
  %bytes = sub i64 %last, %first
  %all.to = call i64 @address(ptr %target, ptr %frame)
  %all.from = call i64 @address(ptr %source, ptr %frame)
  %to = add i64 %all.to, %first
  %from = add i64 %all.from, %first
  %to.pointer = inttoptr i64 %to to ptr
  %from.pointer = inttoptr i64 %from to ptr
  %moved = call ptr @memmove(ptr %to.pointer, ptr %from.pointer, i64 %bytes)
  ret void
}

define internal void @case(ptr %instruction, ptr %frame, ptr %context) nounwind noinline {
entry:
  %selector = getelementptr i64, ptr %instruction, i64 2
  %bool.at = getelementptr i64, ptr %instruction, i64 4
  %count.at = getelementptr i64, ptr %instruction, i64 5
  %is.bool.word = load i64, ptr %bool.at
  %count = load i64, ptr %count.at
  %where = call i64 @address(ptr %selector, ptr %frame)
  %pointer = inttoptr i64 %where to ptr
  %is.bool = icmp ne i64 %is.bool.word, 0
  br i1 %is.bool, label %bool, label %integer
bool:
  %byte = load i8, ptr %pointer
  %flag = zext i8 %byte to i64
  br label %choose
integer:
  %wide = load i64, ptr %pointer
  br label %choose
choose:
  %index = phi i64 [ %flag, %bool ], [ %wide, %integer ]
  %last = sub i64 %count, 1
  %not.negative = call i64 @llvm.smax.i64(i64 %index, i64 0)
  %number = call i64 @llvm.smin.i64(i64 %not.negative, i64 %last)
  %slot = add i64 %number, 6
  %block.at = getelementptr i64, ptr %instruction, i64 %slot
  %words = load i64, ptr %block.at
  %block = getelementptr i64, ptr %instruction, i64 %words
  call void @tj_block(ptr %block, ptr %frame, ptr %context)
  ret void
}

define internal void @tj_block(ptr %code, ptr %frame, ptr %context) nounwind {
entry:
  %count = load i64, ptr %code
  %first = getelementptr i64, ptr %code, i64 1
  %status.at = getelementptr i64, ptr %context, i64 $STATUS
  %arguments.at = getelementptr i64, ptr %context, i64 $ARGUMENTS
  %worker.at = getelementptr i64, ptr %context, i64 $WORKER
  %arguments = load ptr, ptr %arguments.at
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.after, %done ]
  %instruction = phi ptr [ %first, %entry ], [ %instruction.after, %done ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %read, label %return
read:
  %kind = load i64, ptr %instruction
  switch i64 %kind, label %return [
    i64 $KERNEL, label %kernel
    i64 $HOST, label %host
    i64 $COPY, label %copy
    i64 $CASE, label %case
    i64 $LOOP, label %loop
    i64 $SWEEP, label %sweep
    i64 $SHARED, label %shared
  ]
kernel:
  %cell.at = getelementptr i64, ptr %instruction, i64 2
  %extent.at = getelementptr i64, ptr %instruction, i64 3
  %grain.at = getelementptr i64, ptr %instruction, i64 4
  %arguments.count.at = getelementptr i64, ptr %instruction, i64 5
  %first.argument = getelementptr i64, ptr %instruction, i64 6
  %cell = load ptr, ptr %cell.at
  %address = load ptr, ptr %cell
  %extent = load i64, ptr %extent.at
  %grain = load i64, ptr %grain.at
  %arguments.count = load i64, ptr %arguments.count.at
  br label %argument
argument:
  %a = phi i64 [ 0, %kernel ], [ %a.after, %fill ]
  %place = phi ptr [ %first.argument, %kernel ], [ %place.after, %fill ]
  %a.more = icmp slt i64 %a, %arguments.count
  br i1 %a.more, label %fill, label %filled
fill:
  %which = load i64, ptr %place
  %offset.at = getelementptr i64, ptr %place, i64 1
  %offset = load i64, ptr %offset.at
  %word = getelementptr i64, ptr %frame, i64 %which
  %base = load i64, ptr %word
  %value = add i64 %base, %offset
  %slot = getelementptr i64, ptr %arguments, i64 %a
  store i64 %value, ptr %slot
  %a.after = add i64 %a, 1
  %place.after = getelementptr i64, ptr %place, i64 2
  br label %argument
filled:
  %is.serial = icmp eq i64 %grain, 0
  br i1 %is.serial, label %serial, label %parallel
serial:
  %own = call { i64, i64 } @own(i64 %extent, ptr %context)
  %own.first = extractvalue { i64, i64 } %own, 0
  %own.last = extractvalue { i64, i64 } %own, 1
  %worker = load i64, ptr %worker.at
  call void %address(ptr %arguments, i64 %own.first, i64 %own.last, i64 %worker)
  br label %done
parallel:
  %pool.at = getelementptr i64, ptr %context, i64 $POOL
  %parallel.for.at = getelementptr i64, ptr %context, i64 $PARALLEL_FOR
  %pool = load ptr, ptr %pool.at
  %parallel.for.cell = load ptr, ptr %parallel.for.at
  %parallel.for = load ptr, ptr %parallel.for.cell
  call void %parallel.for(ptr %pool, ptr %address, ptr %arguments, i64 %extent, i64 %grain)
  br label %done
host:
  %number.at = getelementptr i64, ptr %instruction, i64 2
  %number = load i64, ptr %number.at
  call void @host(i64 %number, ptr %frame, ptr %context)
  br label %checked
copy:
  %target = getelementptr i64, ptr %instruction, i64 2
  call void @copy(ptr %target, ptr %frame, ptr %context)
  br label %done
case:
  call void @case(ptr %instruction, ptr %frame, ptr %context)
  br label %checked
loop:
  call void @loop(ptr %instruction, ptr %frame, ptr %context)
  br label %checked
shared:
  call void @share(ptr %instruction, ptr %frame, ptr %context)
  br label %checked
sweep:
  call void @sweep(ptr %instruction, ptr %frame, ptr %context)
  br label %checked
checked:
  %status = load i64, ptr %status.at
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %return, label %done
done:
  %length.at = getelementptr i64, ptr %instruction, i64 1
  %length = load i64, ptr %length.at
  %instruction.after = getelementptr i64, ptr %instruction, i64 %length
  %i.after = add i64 %i, 1
  br label %next
return:
  ret void
}

; Run a program's block.  The first %known words of the frame are given; %growing is a list of its words, its length
; first: cursors of memory that is found out to be needed, and released at the end.  Returns 0, or -1 where a call by
; Python failed.
define i64 @tj_run(ptr %block, ptr %given, i64 %known, i64 %words, ptr %growing, i64 %most.arguments, ptr %pool,
                   ptr %parallel.for.cell, ptr %callback) nounwind {
entry:
  %frame = alloca i64, i64 %words, align 64
  %arguments = alloca i64, i64 %most.arguments, align 64
  %context = alloca i64, i64 $CONTEXT_WORDS, align 64
  br label %fill
fill:
  %i = phi i64 [ 0, %entry ], [ %i.after, %filled ]
  %more = icmp slt i64 %i, %words
  br i1 %more, label %choose, label %start
choose:
  %is.known = icmp slt i64 %i, %known
  br i1 %is.known, label %read, label %filled
read:
  %given.at = getelementptr i64, ptr %given, i64 %i
  %word = load i64, ptr %given.at
  br label %filled
filled:
  %value = phi i64 [ 0, %choose ], [ %word, %read ]
  %slot = getelementptr i64, ptr %frame, i64 %i
  store i64 %value, ptr %slot
  %i.after = add i64 %i, 1
  br label %fill
start:
  %arguments.at = getelementptr i64, ptr %context, i64 $ARGUMENTS
  %pool.at = getelementptr i64, ptr %context, i64 $POOL
  %parallel.for.at = getelementptr i64, ptr %context, i64 $PARALLEL_FOR
  %callback.at = getelementptr i64, ptr %context, i64 $CALLBACK
  %status.at = getelementptr i64, ptr %context, i64 $STATUS
  %deadline.at = getelementptr i64, ptr %context, i64 $DEADLINE
  store ptr %arguments, ptr %arguments.at
  store ptr %pool, ptr %pool.at
  store ptr %parallel.for.cell, ptr %parallel.for.at
  store ptr %callback, ptr %callback.at
  store i64 0, ptr %status.at
  store i64 0, ptr %deadline.at
  %leader.at = getelementptr i64, ptr %context, i64 $LEADER
  %worker.at = getelementptr i64, ptr %context, i64 $WORKER
  %first.row.at = getelementptr i64, ptr %context, i64 $FIRST_ROW
  %last.row.at = getelementptr i64, ptr %context, i64 $LAST_ROW
  %rows.at = getelementptr i64, ptr %context, i64 $ROWS
  store ptr null, ptr %leader.at
  store i64 0, ptr %worker.at
  store i64 0, ptr %first.row.at
  store i64 1, ptr %last.row.at
  store i64 1, ptr %rows.at
  call void @tj_block(ptr %block, ptr %frame, ptr %context)
  %count = load i64, ptr %growing
  br label %release
release:
  %g = phi i64 [ 0, %start ], [ %g.after, %released ]
  %g.more = icmp slt i64 %g, %count
  br i1 %g.more, label %released, label %return
released:
  %g.after = add i64 %g, 1
  %which.at = getelementptr i64, ptr %growing, i64 %g.after
  %which = load i64, ptr %which.at
  %cursor = getelementptr i64, ptr %frame, i64 %which
  %memory = load ptr, ptr %cursor
  call void @free(ptr %memory)
  br label %release
return:
  %status = load i64, ptr %status.at
  %failed = icmp ne i64 %status, 0
  %result = select i1 %failed, i64 -1, i64 0
  ret i64 %result
}

; The same, given the arrays themselves: their addresses stand in NumPy's structure.  Returns the number, from 1 on, of
; an array that is not contiguous and aligned, before anything has run.
define i64 @tj_run_arrays(ptr %block, ptr %objects, i64 %count, i64 %words, ptr %growing, i64 %most.arguments,
                          ptr %pool, ptr %parallel.for.cell, ptr %callback) nounwind {
entry:
  %pointers = alloca i64, i64 %count, align 64
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.after, %usable ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %read, label %run
read:
  %object.at = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %object.at
  %data.at = getelementptr i8, ptr %object, i64 16
  %data = load i64, ptr %data.at
  %flags.at = getelementptr i8, ptr %object, i64 64
  %flags = load i32, ptr %flags.at
  %wanted = and i32 %flags, 257
  %good = icmp eq i32 %wanted, 257
  %i.after = add i64 %i, 1
  br i1 %good, label %usable, label %refuse
refuse:
  ret i64 %i.after
usable:
  %pointer.at = getelementptr i64, ptr %pointers, i64 %i
  store i64 %data, ptr %pointer.at
  br label %next
run:
  %status = call i64 @tj_run(ptr %block, ptr %pointers, i64 %count, i64 %words, ptr %growing, i64 %most.arguments,
                             ptr %pool, ptr %parallel.for.cell, ptr %callback)
  ret i64 %status
}

; What a call by Python does to make room.
define void @tj_reserve(ptr %cursor, i64 %bytes) nounwind {
  call void @reserve(ptr %cursor, i64 %bytes)
  ret void
}
"""


def walker_module() -> str:
    """LLVM IR of ``tj_run``, ``tj_run_arrays`` and ``tj_reserve``."""
    from . import looping, sharing, sweeping

    names = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)}
    text = "".join([_TEXT, looping.TEXT, sharing.TEXT, sweeping.TEXT])
    return "\n".join([Template(text).substitute(names), sweeping.functions()])
