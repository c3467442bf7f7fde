"""Thin wrappers of the runtime for engines that run many of it: Ray and Triton. And a page to look at."""
