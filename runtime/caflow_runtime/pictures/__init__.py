"""Image files, and pictures of results."""
