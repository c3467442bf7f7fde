"""Names of files in a bundle."""

MANIFEST = "manifest.json"
CARD = "README.md"
"""The model card."""
SHEET = "samples.png"
"""A picture of samples, for the card."""
