"""Checks and measurements of a bundle on this machine: correctness, speed, memory, and counters for Prometheus."""
