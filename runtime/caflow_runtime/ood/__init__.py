"""Statistics that judge an image or a list of images by likelihood."""
