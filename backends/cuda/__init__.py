"""The CUDA backend: ``codegen`` prints kernels as CUDA C, ``nvrtc`` compiles them, ``driver`` says what is missing.

The names mirror those of :mod:`..cpu`.  Neither printing nor compiling needs a GPU.
"""
