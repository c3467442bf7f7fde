"""Files that are written whole, locked, or checked line by line; strict JSON; and paths as text."""
