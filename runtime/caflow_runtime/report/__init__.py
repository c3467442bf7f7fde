"""The HTML page about a filter's verdicts."""
