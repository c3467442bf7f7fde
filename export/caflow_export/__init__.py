"""Exporter: a checkpoint to a bundle of per-level graphs."""
