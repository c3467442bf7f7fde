"""What a bundle's files hold: reading and writing them."""
