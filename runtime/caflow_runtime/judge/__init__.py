"""What a likelihood says about an image."""
