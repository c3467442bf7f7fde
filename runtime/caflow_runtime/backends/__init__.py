"""Backends: each one loads the file of a graph and returns a callable that runs the graph on arrays."""

MAX_THREADS = 1024
"""Largest number of threads for the operators of a graph. A much larger number would crash the process."""
