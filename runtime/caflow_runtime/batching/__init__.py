"""Items, the pairs of an image and a sample: planning which items run together, and running them."""
