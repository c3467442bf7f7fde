"""Checks and measurements of a bundle on this machine: correctness and speed."""
