"""The CUDA backend: ``codegen`` prints kernels as CUDA C, ``nvrtc`` compiles them, ``driver`` says what is missing.

``forms`` decides how a launch deals a kernel out to threads; each form has an emitter: ``maps`` and ``tiles`` where
there is nothing to reduce, ``rows`` and ``columns`` for one team a point, ``totals`` for many, ``scans`` and
``scatters`` (many updates by ``sorting``) where the order counts, ``attention`` on ``tensor_cores``.  ``batches`` finds
what one launch can do for many calls, ``executable`` runs programs.  What has no kernel is for ``libraries`` (matrix
products) or ``functions``.  Neither printing nor compiling needs a GPU.
"""
