"""HTML report on the verdicts of `caflow filter`."""
