"""Backends: what turns a graph's file into a callable on arrays."""

MOST_THREADS = 1024
"""Of a graph's operators; many more end the process."""
