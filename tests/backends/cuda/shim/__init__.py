"""A CPU shim for CUDA: kernels' text, compiled by g++ and run thread by thread."""
