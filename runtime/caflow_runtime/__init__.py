"""Runtime: runs bundles without PyTorch."""
