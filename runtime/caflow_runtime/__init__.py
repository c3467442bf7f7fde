"""The runtime, which runs bundles without PyTorch."""
