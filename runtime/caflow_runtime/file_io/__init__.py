"""Files that are written whole, locked, or checked line by line; strict JSON; paths as text; and real paths."""
