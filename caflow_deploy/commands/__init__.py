"""Commands of `caflow`, one module each. Large libraries are imported only when a command runs."""
