"""Backends: what turns a graph's file into a callable on arrays."""
