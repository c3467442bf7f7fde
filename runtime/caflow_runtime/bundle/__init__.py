"""Reading, writing and checking the files of a bundle."""
