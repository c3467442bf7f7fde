"""Which rows run together, and running them."""
