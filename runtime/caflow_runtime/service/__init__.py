"""What a server answers, whatever carries it."""
