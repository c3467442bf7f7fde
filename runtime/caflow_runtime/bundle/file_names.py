"""Names of files in a bundle."""

MANIFEST = "manifest.json"
CARD = "README.md"
"""The model card."""
SHEET = "samples.png"
"""Image of samples for the model card."""
