"""Web page to try a model in a browser."""
