"""Loops that are shared by rows, in native code: see :mod:`.partition` for which, and :mod:`.walker` for the words.

Each thread walks the whole loop for its own rows, with a frame of its own, since the cursors move.  Only the caller
notices Ctrl-C; the others see from its context, the ``LEADER``, that it has stopped.
"""

TEXT = """
; Take some parts of a loop: %given are the instruction, the frame and the context.
define internal void @take_rows(ptr %given, i64 %begin, i64 %end, i64 %worker) nounwind {
entry:
  %frame.at = getelementptr i64, ptr %given, i64 1
  %context.at = getelementptr i64, ptr %given, i64 2
  %instruction = load ptr, ptr %given
  %frame = load ptr, ptr %frame.at
  %context = load ptr, ptr %context.at
  %parts.at = getelementptr i64, ptr %instruction, i64 2
  %rows.at = getelementptr i64, ptr %instruction, i64 3
  %words.at = getelementptr i64, ptr %instruction, i64 4
  %most.at = getelementptr i64, ptr %instruction, i64 5
  %loop = getelementptr i64, ptr %instruction, i64 $SHARED_WORDS
  %parts = load i64, ptr %parts.at
  %rows = load i64, ptr %rows.at
  %words = load i64, ptr %words.at
  %most = load i64, ptr %most.at
  %own.frame = alloca i64, i64 %words, align 64
  %own.arguments = alloca i64, i64 %most, align 64
  %own = alloca i64, i64 $CONTEXT_WORDS, align 64
  %frame.bytes = shl i64 %words, 3
  %arguments.at = getelementptr i64, ptr %own, i64 $ARGUMENTS
  %status.at = getelementptr i64, ptr %own, i64 $STATUS
  %leader.at = getelementptr i64, ptr %own, i64 $LEADER
  %worker.at = getelementptr i64, ptr %own, i64 $WORKER
  %first.at = getelementptr i64, ptr %own, i64 $FIRST_ROW
  %last.at = getelementptr i64, ptr %own, i64 $LAST_ROW
  %own.rows.at = getelementptr i64, ptr %own, i64 $ROWS
  %is.caller = icmp eq i64 %worker, 0
  %leader = select i1 %is.caller, ptr null, ptr %context
  br label %next
next:
  %part = phi i64 [ %begin, %entry ], [ %after, %taken ]
  %more = icmp slt i64 %part, %end
  br i1 %more, label %take, label %return
take:
  %after = add i64 %part, 1
  %first.times = mul i64 %part, %rows
  %last.times = mul i64 %after, %rows
  %first = udiv i64 %first.times, %parts
  %last = udiv i64 %last.times, %parts
  %framed = call ptr @memmove(ptr %own.frame, ptr %frame, i64 %frame.bytes)
  %copied = call ptr @memmove(ptr %own, ptr %context, i64 $CONTEXT_BYTES)
  store ptr %own.arguments, ptr %arguments.at
  store i64 0, ptr %status.at
  store ptr %leader, ptr %leader.at
  store i64 %worker, ptr %worker.at
  store i64 %first, ptr %first.at
  store i64 %last, ptr %last.at
  store i64 %rows, ptr %own.rows.at
  call void @loop(ptr %loop, ptr %own.frame, ptr %own)
  %status = load i64, ptr %status.at
  %failed = icmp ne i64 %status, 0
  %tells = and i1 %failed, %is.caller
  br i1 %tells, label %tell, label %taken
tell:
  %leader.status.at = getelementptr i64, ptr %context, i64 $STATUS
  store atomic i64 %status, ptr %leader.status.at monotonic, align 8
  br label %return
taken:
  br label %next
return:
  ret void
}

define internal void @share(ptr %instruction, ptr %frame, ptr %context) nounwind noinline {
  %given = alloca [3 x ptr], align 8
  %frame.at = getelementptr i64, ptr %given, i64 1
  %context.at = getelementptr i64, ptr %given, i64 2
  store ptr %instruction, ptr %given
  store ptr %frame, ptr %frame.at
  store ptr %context, ptr %context.at
  %parts.at = getelementptr i64, ptr %instruction, i64 2
  %parts = load i64, ptr %parts.at
  %pool.at = getelementptr i64, ptr %context, i64 $POOL
  %parallel.for.at = getelementptr i64, ptr %context, i64 $PARALLEL_FOR
  %pool = load ptr, ptr %pool.at
  %parallel.for.cell = load ptr, ptr %parallel.for.at
  %parallel.for = load ptr, ptr %parallel.for.cell
  call void %parallel.for(ptr %pool, ptr @take_rows, ptr %given, i64 %parts, i64 1)
  ret void
}
"""
