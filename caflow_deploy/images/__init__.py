"""Reading and writing of image files with their metadata, and pictures that show results."""
