"""Loops in unrolled ops: found by their numbers, and written anew as ``scan``; the steps of the pass ``reroll``.

:mod:`.repetition` finds stretches in which ops repeat, :mod:`.recurrence` how their operands go on from step to step,
:mod:`.plan` what is needed of each loop; :mod:`.writer` writes the block with its loops rolled up.
"""
