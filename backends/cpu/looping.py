"""Loops in native code: steps of a block, whose values are carried, read and stacked along arrays.

See :mod:`.walker` for the words of a loop's instruction and of the records behind them.  A carry has two buffers, which
its steps write in turn, so that the last one writes the result's if the number of steps is known.
"""

TEXT = """
define internal void @loop(ptr %instruction, ptr %frame, ptr %context) nounwind noinline {
entry:
  %counted.at = getelementptr i64, ptr %instruction, i64 $COUNTED
  %length.at = getelementptr i64, ptr %instruction, i64 $LENGTH
  %reverse.at = getelementptr i64, ptr %instruction, i64 $REVERSE
  %has.counter.at = getelementptr i64, ptr %instruction, i64 $HAS_COUNTER
  %counter.place = getelementptr i64, ptr %instruction, i64 $COUNTER_PLACE
  %condition.at = getelementptr i64, ptr %instruction, i64 $CONDITION_BLOCK
  %predicate.place = getelementptr i64, ptr %instruction, i64 $PREDICATE_PLACE
  %body.at = getelementptr i64, ptr %instruction, i64 $BODY_BLOCK
  %steps.at = getelementptr i64, ptr %instruction, i64 $STEPS
  %looks.at = getelementptr i64, ptr %instruction, i64 $LOOKS
  %carries.at = getelementptr i64, ptr %instruction, i64 $CARRIES
  %inputs.at = getelementptr i64, ptr %instruction, i64 $INPUTS
  %stacked.at = getelementptr i64, ptr %instruction, i64 $STACKED
  %first.carry = getelementptr i64, ptr %instruction, i64 $LOOP_WORDS
  %status.at = getelementptr i64, ptr %context, i64 $STATUS
  %counted = load i64, ptr %counted.at
  %length.word = load i64, ptr %length.at
  %reverse = load i64, ptr %reverse.at
  %has.counter = load i64, ptr %has.counter.at
  %condition.words = load i64, ptr %condition.at
  %body.words = load i64, ptr %body.at
  %steps = load i64, ptr %steps.at
  %looks = load i64, ptr %looks.at
  %carries = load i64, ptr %carries.at
  %inputs = load i64, ptr %inputs.at
  %stacked = load i64, ptr %stacked.at
  %carry.words = mul i64 %carries, $CARRY_WORDS
  %first.input = getelementptr i64, ptr %first.carry, i64 %carry.words
  %input.words = mul i64 %inputs, $INPUT_WORDS
  %first.stacked = getelementptr i64, ptr %first.input, i64 %input.words
  %condition = getelementptr i64, ptr %instruction, i64 %condition.words
  %body = getelementptr i64, ptr %instruction, i64 %body.words
  %is.while = icmp eq i64 %counted, 0
  %is.found.out = icmp eq i64 %counted, 2
  %slot = select i1 %is.found.out, i64 %length.word, i64 0
  %found.at = getelementptr i64, ptr %frame, i64 %slot
  %found = load i64, ptr %found.at
  %length = select i1 %is.found.out, i64 %found, i64 %length.word
  ; The last step of an odd number writes the buffer that the first one writes: the result's.
  %odd.word = and i64 %length, 1
  %odd = icmp ne i64 %odd.word, 0
  %result.first = or i1 %odd, %is.while
  br label %begin
begin:
  %b = phi i64 [ 0, %entry ], [ %b.after, %begun ]
  %begin.carry = phi ptr [ %first.carry, %entry ], [ %begin.carry.after, %begun ]
  %b.more = icmp slt i64 %b, %carries
  br i1 %b.more, label %begun, label %step
begun:
  %begin.which = load i64, ptr %begin.carry
  %begin.cursor = getelementptr i64, ptr %frame, i64 %begin.which
  %begin.next = getelementptr i64, ptr %begin.cursor, i64 1
  %begin.sum = getelementptr i64, ptr %begin.cursor, i64 2
  %start.place = getelementptr i64, ptr %begin.carry, i64 1
  %result.place = getelementptr i64, ptr %begin.carry, i64 3
  %spare.place = getelementptr i64, ptr %begin.carry, i64 5
  %start = call i64 @address(ptr %start.place, ptr %frame)
  %result = call i64 @address(ptr %result.place, ptr %frame)
  %spare = call i64 @address(ptr %spare.place, ptr %frame)
  %sum = add i64 %result, %spare
  %written.first = select i1 %result.first, i64 %result, i64 %spare
  store i64 %start, ptr %begin.cursor
  store i64 %written.first, ptr %begin.next
  store i64 %sum, ptr %begin.sum
  %b.after = add i64 %b, 1
  %begin.carry.after = getelementptr i64, ptr %begin.carry, i64 $CARRY_WORDS
  br label %begin
step:
  %i = phi i64 [ 0, %begin ], [ %i.after, %looked ]
  br i1 %is.while, label %ask, label %count
ask:
  call void @tj_block(ptr %condition, ptr %frame, ptr %context)
  %ask.status = load i64, ptr %status.at
  %ask.failed = icmp ne i64 %ask.status, 0
  br i1 %ask.failed, label %stop, label %asked
asked:
  %predicate.address = call i64 @address(ptr %predicate.place, ptr %frame)
  %predicate.pointer = inttoptr i64 %predicate.address to ptr
  %predicate = load i8, ptr %predicate.pointer
  %goes.on = icmp ne i8 %predicate, 0
  br i1 %goes.on, label %go, label %end
count:
  %left = icmp slt i64 %i, %length
  br i1 %left, label %go, label %end
go:
  %length.less = sub i64 %length, 1
  %from.last = sub i64 %length.less, %i
  %is.reverse = icmp ne i64 %reverse, 0
  %position = select i1 %is.reverse, i64 %from.last, i64 %i
  %counts = icmp ne i64 %has.counter, 0
  br i1 %counts, label %counter, label %input
counter:
  %counter.address = call i64 @address(ptr %counter.place, ptr %frame)
  %counter.pointer = inttoptr i64 %counter.address to ptr
  store i64 %position, ptr %counter.pointer
  br label %input
input:
  %n = phi i64 [ 0, %go ], [ 0, %counter ], [ %n.after, %moved ]
  %this.input = phi ptr [ %first.input, %go ], [ %first.input, %counter ], [ %input.after, %moved ]
  %n.more = icmp slt i64 %n, %inputs
  br i1 %n.more, label %moved, label %stack
moved:
  %input.which = load i64, ptr %this.input
  %input.whole = getelementptr i64, ptr %this.input, i64 1
  %input.stride.at = getelementptr i64, ptr %this.input, i64 3
  %input.stride = load i64, ptr %input.stride.at
  %input.base = call i64 @address(ptr %input.whole, ptr %frame)
  %input.offset = mul i64 %position, %input.stride
  %input.address = add i64 %input.base, %input.offset
  %input.cursor = getelementptr i64, ptr %frame, i64 %input.which
  store i64 %input.address, ptr %input.cursor
  %n.after = add i64 %n, 1
  %input.after = getelementptr i64, ptr %this.input, i64 $INPUT_WORDS
  br label %input
stack:
  %s = phi i64 [ 0, %input ], [ %s.after, %placed ]
  %this.stacked = phi ptr [ %first.stacked, %input ], [ %stacked.after, %placed ]
  %s.more = icmp slt i64 %s, %stacked
  br i1 %s.more, label %room, label %run
room:
  %stacked.which = load i64, ptr %this.stacked
  %stacked.whole = getelementptr i64, ptr %this.stacked, i64 1
  %stacked.stride.at = getelementptr i64, ptr %this.stacked, i64 3
  %grows.at = getelementptr i64, ptr %this.stacked, i64 4
  %stacked.stride = load i64, ptr %stacked.stride.at
  %grows.word = load i64, ptr %grows.at
  %stacked.offset = mul i64 %position, %stacked.stride
  %grows = icmp ne i64 %grows.word, 0
  br i1 %grows, label %grow, label %placed
grow:
  ; All steps at once, where their number is known.
  %one.more = add i64 %i, 1
  %needed.steps = select i1 %is.while, i64 %one.more, i64 %length
  %needed = mul i64 %needed.steps, %stacked.stride
  %whole.which = load i64, ptr %stacked.whole
  %whole.cursor = getelementptr i64, ptr %frame, i64 %whole.which
  call void @reserve(ptr %whole.cursor, i64 %needed)
  br label %placed
placed:
  %stacked.base = call i64 @address(ptr %stacked.whole, ptr %frame)
  %stacked.address = add i64 %stacked.base, %stacked.offset
  %stacked.cursor = getelementptr i64, ptr %frame, i64 %stacked.which
  store i64 %stacked.address, ptr %stacked.cursor
  %s.after = add i64 %s, 1
  %stacked.after = getelementptr i64, ptr %this.stacked, i64 $STACKED_WORDS
  br label %stack
run:
  call void @tj_block(ptr %body, ptr %frame, ptr %context)
  %run.status = load i64, ptr %status.at
  %run.failed = icmp ne i64 %run.status, 0
  br i1 %run.failed, label %stop, label %carry
carry:
  %c = phi i64 [ 0, %run ], [ %c.after, %carried ]
  %this.carry = phi ptr [ %first.carry, %run ], [ %carry.after, %carried ]
  %c.more = icmp slt i64 %c, %carries
  br i1 %c.more, label %carried, label %done.step
carried:
  %carry.which = load i64, ptr %this.carry
  %carry.cursor = getelementptr i64, ptr %frame, i64 %carry.which
  %carry.next = getelementptr i64, ptr %carry.cursor, i64 1
  %carry.sum = getelementptr i64, ptr %carry.cursor, i64 2
  %written = load i64, ptr %carry.next
  %both = load i64, ptr %carry.sum
  %other = sub i64 %both, %written
  store i64 %written, ptr %carry.cursor
  store i64 %other, ptr %carry.next
  %c.after = add i64 %c, 1
  %carry.after = getelementptr i64, ptr %this.carry, i64 $CARRY_WORDS
  br label %carry
done.step:
  %i.after = add i64 %i, 1
  %looks.bits = and i64 %i.after, %looks
  %looks.now = icmp eq i64 %looks.bits, 0
  br i1 %looks.now, label %clock, label %looked
clock:
  call void @look(ptr %frame, ptr %context)
  %look.status = load i64, ptr %status.at
  %look.failed = icmp ne i64 %look.status, 0
  br i1 %look.failed, label %stop, label %looked
looked:
  br label %step
end:
  %tells = icmp sge i64 %steps, 0
  br i1 %tells, label %tell, label %last
tell:
  %steps.cell = getelementptr i64, ptr %frame, i64 %steps
  store i64 %i, ptr %steps.cell
  br label %last
last:
  %l = phi i64 [ 0, %end ], [ 0, %tell ], [ %l.after, %kept ]
  %last.carry = phi ptr [ %first.carry, %end ], [ %first.carry, %tell ], [ %last.after, %kept ]
  %l.more = icmp slt i64 %l, %carries
  br i1 %l.more, label %where, label %stop
where:
  %last.which = load i64, ptr %last.carry
  %last.cursor = getelementptr i64, ptr %frame, i64 %last.which
  %last.place = getelementptr i64, ptr %last.carry, i64 3
  %last.bytes.at = getelementptr i64, ptr %last.carry, i64 7
  %last.address = load i64, ptr %last.cursor
  %last.wanted = call i64 @address(ptr %last.place, ptr %frame)
  %is.there = icmp eq i64 %last.address, %last.wanted
  br i1 %is.there, label %kept, label %fetch
fetch:
  %last.bytes = load i64, ptr %last.bytes.at
  %last.from = inttoptr i64 %last.address to ptr
  %last.to = inttoptr i64 %last.wanted to ptr
  %fetched = call ptr @memmove(ptr %last.to, ptr %last.from, i64 %last.bytes)
  br label %kept
kept:
  %l.after = add i64 %l, 1
  %last.after = getelementptr i64, ptr %last.carry, i64 $CARRY_WORDS
  br label %last
stop:
  ret void
}
"""
