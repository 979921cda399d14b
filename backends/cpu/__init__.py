"""The CPU: kernels printed as LLVM IR (``codegen``), compiled (``compiler``), run natively (``runtime``)."""
