"""From graphs to machine code, and running it.

A graph (``tracejit.ir``) becomes a :class:`~.program.Program`: ``fusion`` groups its ops, ``lower`` turns each
group into a :class:`~.kernel.Kernel`, ``memory`` plans the arena.  Up to there the two machines share
everything; ``cpu`` prints kernels as LLVM IR and runs them, ``cuda`` prints them as CUDA C.
"""
