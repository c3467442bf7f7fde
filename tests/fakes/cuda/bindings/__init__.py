"""Imitates cuda-bindings."""
