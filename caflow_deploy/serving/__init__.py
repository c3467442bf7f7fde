"""Servers: `caflow serve`, with its worker processes, and the model for Triton."""
