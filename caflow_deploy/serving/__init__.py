"""The server `caflow serve`, with its worker processes."""
