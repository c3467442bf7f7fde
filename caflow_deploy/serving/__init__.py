"""Thin wrappers of the runtime for engines that serve it: Ray Serve and Triton."""
