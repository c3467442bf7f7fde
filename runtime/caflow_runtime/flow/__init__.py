"""The mathematics of a chain of graphs, without a device."""
