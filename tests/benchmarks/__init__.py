"""Measurements against peers, each in a process of its own; ``python -m tests.benchmarks --help``."""
