"""Rows, the pairs of an image and a sample: planning which rows run together, and running them."""
