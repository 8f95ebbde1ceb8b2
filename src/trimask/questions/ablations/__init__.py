"""One choice of the model or of the loss at a time."""
