"""Benchmarks: each figure of the README, measured by a command that prints it.

One module per benchmark, with `add_arguments` and `run`; `python -m` this package runs one by name.
"""
