"""What is done around the models that complete images: the part of a result that is known before it is drawn."""
