"""Whether a bundle works here, how fast, and whether it still does the same."""
