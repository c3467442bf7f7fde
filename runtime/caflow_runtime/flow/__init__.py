"""Mathematics of the chain of graphs, independent of devices."""
